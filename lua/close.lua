--[[
close.lua: end a packet that still has shares: it expires, its sender retracts it, or the system returns it.

A held transfer is due twice: when it arrives and, if it could not be given then, when its time is over.

KEYS
  1 lane  2 events  3 due  4 packet  5 shares
ARGV
  1 epoch         the lane's epoch in the ledger
  2 packet        its number
  3 reason        "expired", "retracted" or "returned" (expired before its time, by a decision)
  4 not_after_ms  for "retracted": after this it cannot be retracted
  5 retry_ms      for "expired": an arrived transfer is due again this much later, until it is claimed

REPLIES, in order of precedence
  {"FENCED"}         the lane has another epoch, or is missing
  {"MALFORMED"}      the reason is not one of these, or its number is missing
  {"MISSING"}        no such packet here, or its shares are still loading
  {"ENDED", state}   it had ended before
  {"NOT_DUE"}        "expired", but its time is not over
  {"ARRIVED"}        "expired", its time is not over, but it is a transfer that must be given to its recipient now
  {"CLAIMED"}        "retracted", but somebody has a share
  {"LATE"}           "retracted", but it is too late for that
  {"VIEWED"}         "retracted", but a viewer has not consented
  {"CLOSED", remaining_count, remaining_fen}  ended now; this much goes back to the sender

EVENTS
  {"closed", 1, at_ms, packet, reason, remaining_count, remaining_fen}  one change, with CLOSED; reason: expired or retracted
]]
local lane_key, events_key, due_key, packet_key, shares_key = unpack(KEYS)
local epoch, packet, reason, not_after_ms, retry_ms = unpack(ARGV)
local needed = {expired = tonumber(retry_ms), retracted = tonumber(not_after_ms), returned = 0}

local lane = redis.call('HMGET', lane_key, 'epoch', 'position')
if lane[1] ~= epoch then return {'FENCED'} end
if not needed[reason] then return {'MALFORMED'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local state, expires_at_ms, count, remaining_count, remaining_fen =
  unpack(redis.call('HMGET', packet_key, 'state', 'expires_at_ms', 'count', 'remaining_count', 'remaining_fen'))
local arrives_at_ms, views, consents = unpack(redis.call('HMGET', packet_key, 'arrives_at_ms', 'views', 'consents'))
if not state or state == 'loading' then return {'MISSING'} end
if state ~= 'open' and state ~= 'held' then return {'ENDED', state} end
if reason == 'expired' and now_ms < tonumber(expires_at_ms) then
  if state ~= 'held' or now_ms < tonumber(arrives_at_ms) then return {'NOT_DUE'} end
  -- Not removed from the list: the caller may die before the transfer is given.
  redis.call('ZADD', due_key, math.min(now_ms + retry_ms, tonumber(expires_at_ms)), packet)
  return {'ARRIVED'}
end
if reason == 'retracted' then
  if remaining_count ~= count then return {'CLAIMED'} end
  if now_ms > tonumber(not_after_ms) then return {'LATE'} end
  if tonumber(views or 0) > tonumber(consents or 0) then return {'VIEWED'} end
end
remaining_count, remaining_fen = tonumber(remaining_count), tonumber(remaining_fen)

local position, ended = lane[2] + 1, reason == 'retracted' and reason or 'expired'
redis.call('XADD', events_key, string.format('%.0f-0', position), 'event',
  cmsgpack.pack({'closed', 1, now_ms, packet, ended, remaining_count, remaining_fen}))
redis.call('HSET', lane_key, 'position', position)
redis.call('HSET', packet_key, 'state', ended)
redis.call('ZREM', due_key, packet)
-- The running remainder makes this O(1): the list is removed in the background without counting it.
redis.call('UNLINK', shares_key)
return {'CLOSED', remaining_count, remaining_fen}
