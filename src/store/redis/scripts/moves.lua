-- What is known of moves. KEYS: rows, places by transaction. ARGV: transactions. Answers how many rows there are, then for each
-- transaction its place ('' none) and its row.
local answer = { redis.call('LLEN', KEYS[1]) }
for place = 1, #ARGV do
    local number = redis.call('HGET', KEYS[2], ARGV[place])
    answer[2 * place] = number or ''
    answer[2 * place + 1] = number and redis.call('LINDEX', KEYS[1], number - 1) or ''
end
return answer
