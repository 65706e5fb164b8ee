--[[
claim.lua: give shares of any packets of one lane to many users in one call.

It decides everything first, then writes the event, then the rest: no error can leave a share given but not recorded.
A user who is named twice in one call gets one share. The second claim is answered ALREADY, like any repeat.

KEYS
  1 lane  2 events  3 due  4 frozen  5 limited
  then four per packet: packet, shares, claims, recipients
ARGV
  1 epoch        the lane's epoch in the ledger
  2 backlog_max  how many changes may wait for the ledger
  then for each packet: its number, how many users follow, the users (at most 1,000 users per call)

REPLIES, in order of precedence
  {"FENCED"}     the lane has another epoch, or is missing; nothing was done
  {"MALFORMED"}  not of the form above, too many users, or a packet named twice; nothing was done
  {"OK", letters, values, position, acks}
    letters: one per claim, in the order of the claims; by precedence
      M MISSING      no such packet here, or its shares are still loading
      A ALREADY      the user has a share
      R RETRACTED    the sender took the packet back
      X EXPIRED      its time is over and shares are left, whether it is closed or not
      N NOT_INVITED  it has recipients, and the user is not one of them
      H HELD         a transfer that has not arrived yet
      F FROZEN       the user's account may not claim, and shares were left when the call began
      L LIMITED      the user has received as much as they may, and shares were left when the call began
      E EMPTY        every share is taken
      B BUSY         the backlog is at its bound
      C CLAIMED      the user has a share now
    values: one per claim: the share's amount in fen for A and C, the time in ms until which it holds for L, otherwise 0
    position: how many changes the lane has emitted, with those of this call: up to it, all of A and C are recorded
    acks: one per packet: the first letter of the ack its sender asked for, or -; absent if no sender asked for one

EVENTS
  {"claims", 1, at_ms, {{packet, users, shares, exhausted}, ...}}  shares as "slot:amount_fen"; one change per share
]]
local lane_key, events_key, due_key, frozen_key, limited_key = unpack(KEYS, 1, 5)
local epoch, backlog_max = ARGV[1], tonumber(ARGV[2])

local lane = redis.call('HMGET', lane_key, 'epoch', 'position', 'applied', 'frozen', 'limited_until_ms')
if lane[1] ~= epoch then return {'FENCED'} end
if #ARGV - 2 - (#KEYS - 5) / 2 > 1000 then return {'MALFORMED'} end
local room, time = backlog_max - (lane[2] - lane[3]), redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local stamp, are_limited = string.format(':%.0f', now_ms), lane[5] and now_ms < tonumber(lane[5])
local letters, values, acks, decisions, event, given, argument, named = {}, {}, {}, {}, {}, 0, 3, {}

-- Answers the claims that cannot win; returns the others' places, each user once, and who repeats whom.
local function judge(key, packet, users, base)
  local held = redis.call('HMGET', KEYS[key + 2], unpack(users))
  local invited = packet[6] and redis.call('SMISMEMBER', KEYS[key + 3], unpack(users))
  local frozen = lane[4] and packet[1] ~= 'exhausted' and redis.call('SMISMEMBER', frozen_key, unpack(users))
  local limits = are_limited and packet[1] ~= 'exhausted' and redis.call('HMGET', limited_key, unpack(users))
  local early = packet[1] == 'held' and now_ms < tonumber(redis.call('HGET', KEYS[key], 'arrives_at_ms'))
  local late = packet[1] == 'expired' or (packet[1] ~= 'exhausted' and now_ms >= tonumber(packet[2]))
  local over = packet[1] == 'retracted' and 'R' or late and 'X'
  local asking, first_of, repeats = {}, {}, {}
  for i, user in ipairs(users) do
    values[base + i] = 0
    if held[i] then letters[base + i], values[base + i] = 'A', tonumber(string.match(held[i], ':(%d+):'))
    elseif over then letters[base + i] = over
    elseif invited and invited[i] == 0 then letters[base + i] = 'N'
    elseif early or (frozen and frozen[i] == 1) then letters[base + i] = early and 'H' or 'F'
    elseif limits and now_ms < tonumber(limits[i] or 0) then letters[base + i], values[base + i] = 'L', tonumber(limits[i])
    elseif first_of[user] then repeats[i] = first_of[user]
    else first_of[user], asking[#asking + 1] = i, i end
  end
  return asking, repeats
end

-- Chooses one packet's winners; `base` claims were answered before it.
local function decide(key, number, users, base)
  local packet = redis.call('HMGET', KEYS[key], 'state', 'expires_at_ms', 'remaining_count', 'remaining_fen', 'luckiest_share', 'invited', 'ack')
  if not packet[1] or packet[1] == 'loading' then
    for i = base + 1, base + #users do letters[i], values[i] = 'M', 0 end return
  end
  if packet[7] then acks[(key - 2) / 4] = string.sub(packet[7], 1, 1) end
  local asking, repeats = judge(key, packet, users, base)
  local remaining, winners, entries, fen, luckiest = tonumber(packet[3]), {}, {}, 0, nil
  local wanted = math.min(#asking, remaining, room)
  local shares = wanted > 0 and redis.call('LRANGE', KEYS[key + 1], 0, wanted - 1) or {}
  for k, i in ipairs(asking) do
    local share, user = shares[k], users[i]
    if share then
      local value, amount = share .. stamp, tonumber(string.match(share, ':(%d+)'))
      letters[base + i], values[base + i] = 'C', amount
      winners[k], entries[2 * k - 1], entries[2 * k] = user, user, value
      fen = fen + amount
      if share == packet[5] then luckiest = {user, value} end
    else letters[base + i] = #shares == remaining and 'E' or 'B' end
  end
  for i, first in pairs(repeats) do
    letters[base + i], values[base + i] = string.gsub(letters[base + first], 'C', 'A'), values[base + first]
  end
  if #winners == 0 then return end
  room, given, remaining = room - #winners, given + #winners, remaining - #winners
  event[#event + 1] = {number, winners, shares, remaining == 0}
  decisions[#decisions + 1] = {key, number, #winners, entries, remaining, packet[4] - fen, luckiest}
end

-- Writes what was decided for one packet.
local function give(key, number, taken, entries, remaining_count, remaining_fen, luckiest)
  redis.call('LTRIM', KEYS[key + 1], taken, -1)
  redis.call('HSET', KEYS[key + 2], unpack(entries))
  local fields = {'remaining_count', remaining_count, 'remaining_fen', remaining_fen}
  if luckiest then fields[5], fields[6], fields[7], fields[8] = 'luckiest_user', luckiest[1], 'luckiest_value', luckiest[2] end
  if remaining_count == 0 then
    fields[#fields + 1], fields[#fields + 2] = 'state', 'exhausted'
    redis.call('ZREM', due_key, number)
  end
  redis.call('HSET', KEYS[key], unpack(fields))
end

for key = 6, #KEYS, 4 do
  local number, count = ARGV[argument], tonumber(ARGV[argument + 1])
  local last = argument + 1 + (count or 0)
  if named[number] or not (last > argument + 1 and last <= #ARGV) then return {'MALFORMED'} end
  decide(key, number, {unpack(ARGV, argument + 2, last)}, #letters)
  named[number], argument = true, last + 1
end
if argument <= #ARGV then return {'MALFORMED'} end
local position = lane[2] + given
if given > 0 then
  redis.call('XADD', events_key, string.format('%.0f-0', position), 'event', cmsgpack.pack({'claims', 1, now_ms, event}))
  redis.call('HSET', lane_key, 'position', position)
  for _, decision in ipairs(decisions) do give(unpack(decision, 1, 7)) end
end
for place = 1, next(acks) and (#KEYS - 5) / 4 or 0 do acks[place] = acks[place] or '-' end
return {'OK', table.concat(letters), values, position, next(acks) and table.concat(acks)}
