--[[
extend.lua: let a packet that has not ended be claimed for longer. The ledger has its new end already.

It is safe to repeat.

KEYS
  1 lane  2 due  3 packet
ARGV
  1 epoch          the lane's epoch in the ledger
  2 packet         its number
  3 expires_at_ms  its new end

REPLIES, in order of precedence
  {"FENCED"}     the lane has another epoch, or is missing
  {"MALFORMED"}  the new end is no number
  {"MISSING"}    no such packet here, or its shares are still loading
  {"ENDED"}      it has ended, or its time is over
  {"EXTENDED"}   it can be claimed until then, or for longer

EVENTS
  none
]]
local lane_key, due_key, packet_key = unpack(KEYS)
local epoch, packet, expires_at_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('HGET', lane_key, 'epoch') ~= epoch then return {'FENCED'} end
if not expires_at_ms then return {'MALFORMED'} end
local state, ends_at_ms = unpack(redis.call('HMGET', packet_key, 'state', 'expires_at_ms'))
if not state or state == 'loading' then return {'MISSING'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if (state ~= 'open' and state ~= 'held') or now_ms >= tonumber(ends_at_ms) then return {'ENDED'} end
if expires_at_ms > tonumber(ends_at_ms) then
  redis.call('HSET', packet_key, 'expires_at_ms', string.format('%.0f', expires_at_ms))
  -- A held one is due when it arrives, and afterwards until its end: the sweeper finds the new one by itself.
  if state == 'open' then redis.call('ZADD', due_key, 'XX', string.format('%.0f', expires_at_ms), packet) end
end
return {'EXTENDED'}
