--[[
limit.lua: bring a lane's users who have received as much as they may, and until when, up to date with the ledger's list.

It is safe to repeat: changes that the lane has are not applied again, and none is left out.

KEYS
  1 lane  2 limited
ARGV
  1 epoch    the lane's epoch in the ledger
  2 after    the last change that the lane should have; 0: none
  3 version  the last of the changes in this call; smaller than `after`: the lane forgets all earlier changes
  then for each user: the user, and the time in ms until which they may not claim; 0: they may (at most 2,000 users per call)

REPLIES, in order of precedence
  {"FENCED"}          the lane has another epoch, or is missing
  {"MALFORMED"}       not of the form above, or too many users
  {"MOVED", version}  the lane has another last change; go on from it
  {"FOLLOWED"}        the lane has these changes

EVENTS
  none
]]
local lane_key, limited_key = unpack(KEYS)
local epoch, after, version = unpack(ARGV, 1, 3)

local lane = redis.call('HMGET', lane_key, 'epoch', 'limited_version', 'limited_until_ms')
if lane[1] ~= epoch then return {'FENCED'} end
if #ARGV % 2 == 0 or #ARGV > 4003 or not tonumber(version) then return {'MALFORMED'} end
for i = 5, #ARGV, 2 do if not tonumber(ARGV[i]) then return {'MALFORMED'} end end
if (lane[2] or '0') ~= after then return {'MOVED', lane[2] or '0'} end

local is_over = redis.call('TIME')[1] * 1000 >= tonumber(lane[3] or 0)
local until_ms = 0
-- Once all times are over, the hash is removed, so that it does not grow from day to day.
if is_over or tonumber(version) < tonumber(after) then redis.call('UNLINK', limited_key)
else until_ms = tonumber(lane[3]) end
for i = 5, #ARGV, 2 do until_ms = math.max(until_ms, tonumber(ARGV[i])) end
if #ARGV > 3 then redis.call('HSET', limited_key, unpack(ARGV, 4)) end
-- The lane's hash has the latest of all times. After it, claims do not look at the users.
redis.call('HSET', lane_key, 'limited_version', version, 'limited_until_ms', string.format('%.0f', until_ms))
return {'FOLLOWED'}
