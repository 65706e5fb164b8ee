--[[
freeze.lua: bring a lane's set of users who may not claim up to date with the ledger's list of changes.

It is safe to repeat: changes that the lane has are not applied again, and none is left out.

KEYS
  1 lane  2 frozen
ARGV
  1 epoch    the lane's epoch in the ledger
  2 after    the last change that the lane should have; 0: none
  3 version  the last of the changes in this call
  4 count    how many users they freeze; these follow
  then the users who are no longer frozen (at most 5,000 users per call)

REPLIES, in order of precedence
  {"FENCED"}          the lane has another epoch, or is missing
  {"MALFORMED"}       not of the form above, or too many users
  {"MOVED", version}  the lane has another last change; go on from it
  {"FOLLOWED"}        the lane has these changes

EVENTS
  none
]]
local lane_key, frozen_key = unpack(KEYS)
local epoch, after, version, count = unpack(ARGV, 1, 4)
local first_lifted = 5 + (tonumber(count) or -1)

local lane = redis.call('HMGET', lane_key, 'epoch', 'frozen_version')
if lane[1] ~= epoch then return {'FENCED'} end
if first_lifted < 5 or first_lifted > #ARGV + 1 or #ARGV > 5004 then return {'MALFORMED'} end
if (lane[2] or '0') ~= after then return {'MOVED', lane[2] or '0'} end

if first_lifted > 5 then redis.call('SADD', frozen_key, unpack(ARGV, 5, first_lifted - 1)) end
if first_lifted <= #ARGV then redis.call('SREM', frozen_key, unpack(ARGV, first_lifted, #ARGV)) end
redis.call('HSET', lane_key, 'frozen_version', version)
-- This field spares claims a look at the set while nobody is frozen.
if redis.call('EXISTS', frozen_key) == 1 then redis.call('HSET', lane_key, 'frozen', 1)
else redis.call('HDEL', lane_key, 'frozen') end
return {'FOLLOWED'}
