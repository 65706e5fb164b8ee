--[[
grab.lua: one user grabs one share of one packet. What every peer calls, one call a claim.

Written the way published red packet services do it, with their known defects left out: a repeat gets its amount
again, and "already" and "sold out" do not look alike. It keeps what claim.lua keeps: who has which share and since
when, what remains, the packet's end, and an event for whoever carries it into the books.

KEYS  1 packet  2 shares  3 claims  4 events
ARGV  1 the packet's number  2 the user
REPLY {outcome, amount_fen}; the outcome is a word of the HTTP answer, or "missing"
]]
local share = redis.call('HGET', KEYS[3], ARGV[2])
if share then return {'already_claimed', string.match(share, ':(%d+):')} end
local packet = redis.call('HMGET', KEYS[1], 'state', 'expires_at_ms')
if not packet[1] then return {'missing', '0'} end
if packet[1] == 'exhausted' then return {'sold_out', '0'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
if now_ms >= tonumber(packet[2]) then return {'expired', '0'} end
share = redis.call('LPOP', KEYS[2])
if not share then return {'sold_out', '0'} end
redis.call('HSET', KEYS[3], ARGV[2], share .. string.format(':%.0f', now_ms))
if redis.call('HINCRBY', KEYS[1], 'remaining_count', -1) == 0 then redis.call('HSET', KEYS[1], 'state', 'exhausted') end
redis.call('XADD', KEYS[4], '*', 'packet', ARGV[1], 'user', ARGV[2], 'share', share)
return {'claimed', string.match(share, ':(%d+)')}
