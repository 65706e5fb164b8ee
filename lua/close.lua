--[[
close.lua: end a packet that still has shares, because its time ran out or because its sender takes it back.

KEYS
  1 lane  2 events  3 due  4 packet  5 shares
ARGV
  1 epoch   the lane's epoch as the ledger has it
  2 packet  its number
  3 reason  "expired" or "retracted"

REPLIES, in order of precedence
  {"FENCED"}         the lane is not of this epoch, or not there
  {"MALFORMED"}      the reason is neither
  {"MISSING"}        no such packet here, or its shares are still loading
  {"ENDED", state}   it had ended before
  {"NOT_DUE"}        "expired", but its time is not over
  {"CLAIMED"}        "retracted", but somebody has a share
  {"CLOSED", remaining_count, remaining_fen}  ended now; this much goes back to the sender

EVENTS
  {"closed", 1, at_ms, packet, reason, remaining_count, remaining_fen}  one change, with CLOSED
]]
local lane_key, events_key, due_key, packet_key, shares_key = unpack(KEYS)
local epoch, packet, reason = unpack(ARGV)

local lane = redis.call('HMGET', lane_key, 'epoch', 'position')
if lane[1] ~= epoch then return {'FENCED'} end
if reason ~= 'expired' and reason ~= 'retracted' then return {'MALFORMED'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local state, expires_at_ms, count, remaining_count, remaining_fen =
  unpack(redis.call('HMGET', packet_key, 'state', 'expires_at_ms', 'count', 'remaining_count', 'remaining_fen'))
if not state or state == 'loading' then return {'MISSING'} end
if state ~= 'open' then return {'ENDED', state} end
if reason == 'expired' and now_ms < tonumber(expires_at_ms) then return {'NOT_DUE'} end
if reason == 'retracted' and remaining_count ~= count then return {'CLAIMED'} end
remaining_count, remaining_fen = tonumber(remaining_count), tonumber(remaining_fen)

local position = lane[2] + 1
redis.call('XADD', events_key, string.format('%.0f-0', position), 'event',
  cmsgpack.pack({'closed', 1, now_ms, packet, reason, remaining_count, remaining_fen}))
redis.call('HSET', lane_key, 'position', position)
redis.call('HSET', packet_key, 'state', reason)
redis.call('ZREM', due_key, packet)
-- The running remainder makes this O(1): the list goes in the background, nobody counts it.
redis.call('UNLINK', shares_key)
return {'CLOSED', remaining_count, remaining_fen}
