-- Frees a name that points to whom the caller says. KEYS: the shard's names. ARGV: name, to whom.
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found and string.sub(found, 1, -17) == ARGV[2] then
    return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
