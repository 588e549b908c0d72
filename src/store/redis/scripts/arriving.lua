-- Makes a store that is the target of a move, unless there is one. KEYS: what the store is, the mark of a move.
-- ARGV: version, shards, id, mark. Answers whether it was made.
if redis.call('HEXISTS', KEYS[1], 'version') == 1 then
    return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'shards', ARGV[2], 'id', ARGV[3])
redis.call('SET', KEYS[2], ARGV[4])
return 1
