--[[
freeze.lua: tell a lane which users may not claim, as the ledger's list of changes has it.

Safe to repeat: changes that the lane has are not applied again, and none is left out.

KEYS
  1 lane  2 frozen
ARGV
  1 epoch    the lane's epoch as the ledger has it
  2 after    the last change the lane is believed to have; 0: none
  3 version  the last of the changes in this call
  4 count    how many users are frozen by them; they follow
  then the users that are not frozen any more (at most 5,000 users a call)

REPLIES, in order of precedence
  {"FENCED"}          the lane is not of this epoch, or not there
  {"MALFORMED"}       not of the form above, or too many users
  {"MOVED", version}  the lane is at another change; go on from there
  {"FOLLOWED"}        the lane knows them

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
-- A field of its own, so that where nobody is frozen claims do not look at the set.
if redis.call('EXISTS', frozen_key) == 1 then redis.call('HSET', lane_key, 'frozen', 1)
else redis.call('HDEL', lane_key, 'frozen') end
return {'FOLLOWED'}
