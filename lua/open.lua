--[[
open.lua: load a paid packet's shares, one chunk per call, and open it with the last chunk.

It is safe to repeat: a chunk that is already loaded is answered OFFSET, an opened packet EXISTS.

KEYS
  1 lane  2 events  3 due  4 packet  5 shares  6 recipients
ARGV
  1 epoch           the lane's epoch in the ledger
  2 packet          its number
  3 not_after_ms    after this, the caller's reading of the ledger is too old to begin with
  4 offset          how many shares the earlier chunks held
  5 count           how many shares the packet has in all
  6 total_fen
  7 expires_at_ms
  8 luckiest_share  the share that will be 手气最佳, "slot:amount_fen"
  9 ack             the ack mode that its sender chose; empty: the server's setting applies
  10 arrives_at_ms  before this nobody can claim it, afterwards the sweeper claims it for its recipient; empty: at once
  11 recipients     how many recipients follow (0: anyone may claim); the same in every chunk
  then the recipients, then the chunk's shares, "slot:amount_fen", in the order of giving

REPLIES, in order of precedence
  {"FENCED"}          the lane has another epoch, or is missing
  {"LATE"}            nothing is loaded yet and not_after_ms has passed: read the ledger again
  {"EXISTS", state}   the packet was opened before
  {"OFFSET", loaded}  the chunk has another offset; go on from `loaded`
  {"MALFORMED"}       more shares than count, not of the form above, or more than 7,000 shares or recipients per call
  {"LOADED", loaded}  the chunk is loaded; more must follow
  {"OPENED"}          the last chunk is loaded and the packet can be claimed

EVENTS
  {"opened", 1, at_ms, packet}  one change, with OPENED
]]
local lane_key, events_key, due_key, packet_key, shares_key, recipients_key = unpack(KEYS)
local epoch, packet, not_after_ms, offset, count, total_fen, expires_at_ms, luckiest_share, ack, arrives_at_ms = unpack(ARGV, 1, 10)
local recipients = tonumber(ARGV[11]) or -1
local first_recipient, first_share = 12, 12 + recipients
local shares = #ARGV - first_share + 1

local lane = redis.call('HMGET', lane_key, 'epoch', 'position')
if lane[1] ~= epoch then return {'FENCED'} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local known = redis.call('HMGET', packet_key, 'state', 'loaded')
if not known[1] and now_ms > tonumber(not_after_ms) then return {'LATE'} end
if known[1] and known[1] ~= 'loading' then return {'EXISTS', known[1]} end
local loaded = tonumber(known[2] or 0)
if loaded ~= tonumber(offset) then return {'OFFSET', loaded} end
loaded = loaded + shares
-- They are unpacked below onto Lua's stack, which holds 8,000.
local bounded = recipients >= 0 and recipients <= 7000 and shares >= 0 and shares <= 7000
if loaded > tonumber(count) or not bounded then return {'MALFORMED'} end

local complete = loaded == tonumber(count)
if complete then
  local position = lane[2] + 1
  redis.call('XADD', events_key, string.format('%.0f-0', position), 'event', cmsgpack.pack({'opened', 1, now_ms, packet}))
  redis.call('HSET', lane_key, 'position', position)
end
if not known[1] then
  redis.call('HSET', packet_key, 'state', 'loading', 'count', count, 'total_fen', total_fen, 'expires_at_ms', expires_at_ms,
    'remaining_count', count, 'remaining_fen', total_fen, 'luckiest_share', luckiest_share)
  if ack ~= '' then redis.call('HSET', packet_key, 'ack', ack) end
  if arrives_at_ms ~= '' then redis.call('HSET', packet_key, 'arrives_at_ms', arrives_at_ms) end
  if recipients > 0 then
    redis.call('SADD', recipients_key, unpack(ARGV, first_recipient, first_share - 1))
    redis.call('HSET', packet_key, 'invited', recipients)
  end
end
if shares > 0 then redis.call('RPUSH', shares_key, unpack(ARGV, first_share, #ARGV)) end
if not complete then
  redis.call('HSET', packet_key, 'loaded', loaded)
  return {'LOADED', loaded}
end
redis.call('HSET', packet_key, 'state', arrives_at_ms == '' and 'open' or 'held')
redis.call('HDEL', packet_key, 'loaded')
redis.call('ZADD', due_key, arrives_at_ms == '' and expires_at_ms or arrives_at_ms, packet)
return {'OPENED'}
