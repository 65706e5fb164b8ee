--[[
fence.lua: let a lane refuse everything from now on, because it is being moved to another server.

A transaction that watches the lane's key would never end: every claim changes that key.

KEYS
  1 lane
ARGV
  1 lane_token    the token under which the lane serves, or the fence that is renewed
  2 moving_token  the token of a lane that is being moved; no script is ever called with it

REPLIES, in order of precedence
  {"CHANGED"}  the lane has another token, or is missing; nothing was done
  {"FENCED"}   done

EVENTS
  none
]]
local lane_key = KEYS[1]
local lane_token, moving_token = ARGV[1], ARGV[2]

if redis.call('HGET', lane_key, 'epoch') ~= lane_token then return {'CHANGED'} end
redis.call('HSET', lane_key, 'epoch', moving_token)
return {'FENCED'}
