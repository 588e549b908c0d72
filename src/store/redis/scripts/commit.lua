-- All writes of one verb, when the record is still the one the verb was judged by.
-- KEYS[1] the record; the others as the writes name them, the last one the mark of a move; all of one slot.
-- ARGV[1] revision the record must have ('' none), ARGV[2] its next one ('' it is removed), ARGV[3] fence of the lease that must
-- still hold it ('' none asked), ARGV[4] milliseconds after which it is too late ('' never), then the writes, each as number of
-- arguments, command, place of its key, arguments.
-- Answers 1 done, 0 another revision, 2 another lease, 3 too late, 4 damaged; only 1 wrote anything.
local found = redis.call('HGET', KEYS[1], 'r') or ''
if found == ARGV[2] then
    -- Sent again after its answer was lost.
    return 1
end
local mark = redis.call('GET', KEYS[#KEYS])
if mark then
    return redis.error_reply('STOREMOVED ' .. mark)
end
if ARGV[3] ~= '' and redis.call('HGET', KEYS[1], 'lf') ~= ARGV[3] then
    return 2
end
if found ~= ARGV[1] then
    return 0
end
if ARGV[4] ~= '' then
    local now = redis.call('TIME')
    if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[4]) then
        return 3
    end
end
-- Before the first write: nothing takes back what a script has written.
local at = 5
while at <= #ARGV do
    local count, command, key = tonumber(ARGV[at]), ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])]
    if command == 'LENGTH' and redis.call('LLEN', key) ~= tonumber(ARGV[at + 3]) then
        return 4
    end
    if command == 'ABSENT' and redis.call('HEXISTS', key, ARGV[at + 3]) == 1 then
        return 4
    end
    at = at + 3 + count
end
at = 5
while at <= #ARGV do
    local count, command, key = tonumber(ARGV[at]), ARGV[at + 1], KEYS[tonumber(ARGV[at + 2])]
    if command == 'RAISE' then
        if tonumber(redis.call('GET', key) or '0') < tonumber(ARGV[at + 3]) then
            redis.call('SET', key, ARGV[at + 3])
        end
    elseif command ~= 'LENGTH' and command ~= 'ABSENT' then
        redis.call(command, key, unpack(ARGV, at + 3, at + 2 + count))
    end
    at = at + 3 + count
end
return 1
