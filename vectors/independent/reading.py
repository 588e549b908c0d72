"""Texts of JSON: their canonical form (RFC 8785), and messages of MCP as a gateway reads them.

Used by messages.py. The reader is Python's, made strict; numbers are printed by ECMAScript's rules from the shortest digits, which are
those of `repr`.
"""

import json
import re

DEPTH, MCP_DEPTH = 32, 100


class NotJson(Exception):
    pass


def strict(text, depth):
    """One document, no key twice, nothing that is no text or no number, no deeper than `depth`."""

    def members(pairs):
        if len({name for name, _ in pairs}) != len(pairs):
            raise NotJson
        return dict(pairs)

    def number(digits):
        value = float(digits)
        if value in (float("inf"), float("-inf")):
            raise NotJson
        return value

    def whole(digits):
        number(digits)
        return int(digits) if digits != "-0" else -0.0

    def refuse(_):
        raise NotJson

    def walk(value, left):
        if isinstance(value, str):
            value.encode("utf-8")
        elif isinstance(value, (dict, list)):
            if left == 0:
                raise NotJson
            for name in value if isinstance(value, dict) else ():
                walk(name, left)
            for member in value.values() if isinstance(value, dict) else value:
                walk(member, left - 1)

    try:
        value = json.loads(text, object_pairs_hook=members, parse_float=number, parse_int=whole, parse_constant=refuse)
        walk(value, depth)
        return value
    except (ValueError, RecursionError):
        raise NotJson from None


# ---------------------------------------------------------------- RFC 8785


def number(value):
    """As ECMAScript prints the nearest double."""
    value = float(value)
    if value == 0:
        return "0"
    sign, digits = ("-" if value < 0 else ""), repr(abs(value))
    mantissa, _, exponent = digits.partition("e")
    before, _, after = mantissa.partition(".")
    point = len(before) + int(exponent or 0)
    digits = before + after
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    # The value is 0.digits times ten to the power of point.
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    power = point - 1
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{'+' if power > 0 else '-'}{abs(power)}"


SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def string(text):
    return '"' + "".join(SHORT.get(letter) or (f"\\u{ord(letter):04x}" if letter < " " else letter) for letter in text) + '"'


def canonical(value):
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, str):
        return string(value)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(f"{string(name)}:{canonical(value[name])}" for name in names) + "}"


def canonical_texts():
    deep = lambda levels: "[" * levels + "]" * levels
    right = [
        ("sorted", "members by name, no white space", '{ "b" : 1 , "a" : [ true , null , "x" ] }'),
        ("utf-16", "names are compared by their UTF-16 units: a surrogate is less than U+FB33",
         '{"\u20ac":1,"\\r":2,"\ufb33":3,"1":4,"\U0001f600":5,"\u0080":6,"\u00f6":7}'),
        ("nested", "at every depth", '{"b":{"d":[],"c":{}},"a":[{"z":0,"y":0}]}'),
        ("empty-name", "a name may be empty", '{"a":1,"":2}'),
        ("scalar", "a text alone is a document", ' "a" '),
        ("escapes-short", "the short escapes where there are any", '"\\u0008\\u0009\\u000a\\u000c\\u000d\\u0022\\u005c"'),
        ("escapes-long", "other control characters in small hex", '"\\u0000\\u0007\\u000B\\u001F"'),
        ("escapes-none", "nothing else is escaped", '"\\/\\u007f\\u0080\\u2028\\u2029\\ufeff\\u20AC"'),
        ("pair", "a pair of surrogates is one character", '"\\ud83d\\ude00"'),
        ("no-normalisation", "letters that look alike stay what they are", '["\u00e9","e\u0301"]'),
        ("deepest", "as deep as may be", deep(DEPTH)),
        ("integers", "up to 2^53 as they are", "[0,1,-1,9007199254740991,9007199254740992,-9007199254740992]"),
        ("integers-beyond", "from there on as the nearest double", "[9007199254740993,9007199254740995,18446744073709551615,-9223372036854775808,123456789012345678901234567890]"),
        ("negative-zero", "zero has no sign", "[-0,-0.0,0e5,-0E-5]"),
        ("fractions", "no zeros that say nothing", "[1.0,100.00,0.50,1.5e0,25e-1]"),
        ("shortest", "the fewest digits that read back as the same double", "[0.1,0.30000000000000004,333333333.33333329,1.7976931348623157e308,4.9406564584124654e-324,2.2250738585072014e-308]"),
        ("large", "exponents from 10^21 on", "[1e20,1e21,123456789012345680000,1.5e22,-1e300]"),
        ("small", "and below 10^-6", "[1e-6,1e-7,0.000001234,0.0000001234,-5e-20]"),
        ("underflow", "less than any double is zero", "[1e-400,-1e-400]"),
        ("rounding", "halves go to the even neighbour", "[5e-324,1424953923781206.2,9007199254740993.0,0.000001,4.5,4503599627370497.5]"),
    ]
    wrong = [
        ("huge", "a number that no double holds", "1e400"),
        ("huge-integer", "the same in digits", "1" + "0" * 400),
        ("not-a-number", "not a number is no number", "NaN"),
        ("infinity", "nor is infinity", "[-Infinity]"),
        ("half-a-pair", "half a pair of surrogates is no text", '"\\ud83d"'),
        ("half-a-pair-name", "nor is it a name", '{"\\udE00":1}'),
        ("duplicate", "a name twice", '{"a":1,"b":2,"a":1}'),
        ("duplicate-escaped", "a name twice, once in disguise", '{"a":1,"\\u0061":1}'),
        ("control", "a bare control character", '"a\nb"'),
        ("leading-zero", "a number has no leading zero", "01"),
        ("plus", "nor a plus", "+1"),
        ("point", "nor a point at its end", "1."),
        ("hex", "nor hex", "0x10"),
        ("quotes", "other quotes", "{'a':1}"),
        ("escape", "an escape that is none", '"\\a"'),
        ("trailing", "two documents", "{} {}"),
        ("comma", "a comma before the end", "[1,]"),
        ("nothing", "no document", " "),
        ("byte-order-mark", "JSON has none", "\ufeff{}"),
        ("too-deep", "deeper than may be", deep(DEPTH + 1)),
    ]
    cases = [
        {"name": name, "reason": reason, "input": {"json": text}, "expected": {"canonical": canonical(strict(text, DEPTH))}}
        for name, reason, text in right
    ]
    for name, reason, text in wrong:
        try:
            strict(text, DEPTH)
        except NotJson:
            cases.append({"name": name, "reason": reason, "input": {"json": text}, "expected": {"error": "not_json"}})
        else:
            raise AssertionError(name)
    yield "canonical-json", {"kind": "canonical-json", "cases": cases}


# ---------------------------------------------------------------- MCP

OWN_ID, PAYMENT = "kas402call", "x402/payment"
TOP = {"jsonrpc", "id", "method", "params", "result", "error"}
PARAMS = {"name", "arguments", "_meta", "task"}


class Refused(Exception):
    pass


def require(holds, code="mcp_message"):
    if not holds:
        raise Refused(code)


def unlike(members, names):
    """No member that some reader would take for one of these."""
    require(not any(name not in names and name.upper().lower() in names for name in members))


def raw_members(text):
    """Names and the texts of their values, of an object that was read strictly."""
    decode, space = json.JSONDecoder().raw_decode, re.compile(r"[ \t\n\r]*")
    skip = lambda at: space.match(text, at).end()
    at, found = skip(skip(0) + 1), {}
    while text[at] != "}":
        name, at = decode(text, at)
        begin = skip(skip(at) + 1)
        _, end = decode(text, begin)
        found[name], at = text[begin:end], skip(end)
        if text[at] == ",":
            at = skip(at + 1)
    return found


def printed(members):
    return "{" + ",".join(f"{string(name)}:{members[name]}" for name in sorted(members, key=str.encode)) + "}"


def without_payment(body):
    top = raw_members(body)
    if top.get("params", "").startswith("{"):
        params = raw_members(top["params"])
        if params.get("_meta", "").startswith("{"):
            meta = raw_members(params.pop("_meta"))
            meta.pop(PAYMENT, None)
            if meta:
                params["_meta"] = printed(meta)
        top["params"] = printed(params)
    return printed(top)


def kind_of(message):
    """The tool that a message calls, or None."""
    require(isinstance(message, dict))
    unlike(message, TOP)
    if "id" in message:
        given = message["id"]
        if isinstance(given, str):
            require(not given.startswith(OWN_ID))
        else:
            require(type(given) is int and -(2**63) <= given < 2**64)
    answers = "result" in message or "error" in message
    if "method" not in message:
        require(answers)
        return None
    method, params = message["method"], message.get("params")
    require(isinstance(method, str) and not answers)
    if method == "tools/call":
        require(isinstance(params, dict))
        unlike(params, PARAMS)
        require(isinstance(params.get("name"), str))
        return params["name"]
    require(re.fullmatch(r"[A-Za-z0-9_./$-]*", method) and re.sub("[^a-z]", "", method.lower()) != "toolscall")
    about = params.get("requestId") if isinstance(params, dict) else None
    require(not (isinstance(about, str) and about.startswith(OWN_ID)))
    return None


def payment_of(message):
    params = message.get("params")
    if not isinstance(params, dict):
        return None
    unlike(params, {"_meta"})
    meta = params.get("_meta")
    if meta is None:
        return None
    require(isinstance(meta, dict))
    unlike(meta, {PAYMENT})
    return [meta[PAYMENT]] if PAYMENT in meta else None


def is_sold(tool, sold):
    """Sold under its exact name; what a server could take for that name is neither sold nor free."""
    if tool in sold:
        return True
    require(tool and all("!" <= letter <= "~" and letter != "%" for letter in tool), "mcp_tool")
    like = lambda name: (name.lower(), name.lower().rstrip("./"))
    require(not any(like(tool)[at] == like(name)[at] for name in sold for at in (0, 1)), "mcp_tool")
    return False


def posted(body, sold):
    try:
        message = strict(body, MCP_DEPTH)
    except NotJson:
        raise Refused("mcp_message") from None
    if isinstance(message, list):
        require(message)
        tools, pays = [], False
        for each in message:
            tool = kind_of(each)
            pays |= payment_of(each) is not None
            tools += [tool] if tool is not None else []
        try:
            free = not any(is_sold(tool, sold) for tool in tools)
        except Refused:
            free = False
        require(free and not pays, "mcp_batch")
        return {"sold": False, "forwarded": body}
    tool, payment = kind_of(message), payment_of(message)
    if tool is None or not is_sold(tool, sold):
        return {"sold": False, "forwarded": body if payment is None else without_payment(body)}
    require("id" in message)
    require("task" not in message["params"], "mcp_task")
    return {
        "sold": True, "tool": tool, "arguments": message["params"].get("arguments"), "payment": payment[0] if payment else None,
        "forwarded": without_payment(body),
    }


def mcp_messages():
    call = lambda inside='"name":"render"', before='"jsonrpc":"2.0","id":1,': f'{{{before}"method":"tools/call","params":{{{inside}}}}}'
    paid = '"_meta":{"x402/payment":{"x402Version":2}}'
    cases = []
    for name, reason, body, expect in [
        ("call", "a call of a tool that is sold", call(), "sold"),
        ("call-arguments", "its arguments, whatever they are", call('"name":"render","arguments":{"n":[1,null,"\u00fc"]}'), "sold"),
        ("call-null-arguments", "null is none", call('"name":"render","arguments":null'), "sold"),
        ("call-paid", "its payment, which the server does not see", call(f'"name":"render",{paid}'), "sold"),
        ("call-paid-meta", "what else stands beside the payment stays",
         call('"name":"render","_meta":{"progressToken":7,"x402/payment":{"a":1},"b":1.50}'), "sold"),
        ("call-own-text", "what is forwarded keeps its digits, escapes and spaces",
         call('"name": "render", "arguments": { "n": 1.10, "big": 123456789012345678901234567890, "a": "\\u00fc" }'), "sold"),
        ("call-escaped", "a name in disguise is that name", call('"na\\u006de":"rend\\u0065r"'), "sold"),
        ("call-method-escaped", "and so is a method", '{"id":"x","method":"tools\\/call","params":{"name":"render"}}', "sold"),
        ("call-text-id", "an id may be a text", call(before='"id":"a",'), "sold"),
        ("call-negative-id", "or below zero", call(before='"id":-9223372036854775808,'), "sold"),
        ("call-largest-id", "or of 64 bits", call(before='"id":18446744073709551615,'), "sold"),
        ("call-payment-elsewhere", "a payment in the arguments is none", call(f'"name":"render","arguments":{{{paid}}}'), "sold"),
        ("call-payment-deeper", "nor is one further in", call('"name":"render","_meta":{"_meta":{"x402/payment":1}}'), "sold"),
        ("call-null-meta", "no metadata", call('"name":"render","_meta":null'), "sold"),
        ("free-call", "a tool that is free, as it came", call(' "name" : "echo" '), "free"),
        ("free-call-paid", "its payment is not shown either", call(f'"name":"echo",{paid}'), "free"),
        ("free-notification", "a free tool may be called without an answer", call('"name":"echo"', ""), "free"),
        ("other", "any other message, as it came", '{"id":1, "method":"initialize","params":{}}', "free"),
        ("other-paid", "a payment is taken out of any message",
         '{"id":1,"method":"ping","params":{"_meta":{"x402/payment":{"a":1},"b":1.50},"c":[1e2]}}', "free"),
        ("notification", "without an id", '{"method":"notifications/initialized"}', "free"),
        ("answer", "an answer of the client", '{"id":1,"result":{}}', "free"),
        ("answer-error", "an error of the client", '{"id":1,"error":{"code":-1}}', "free"),
        ("batch", "several messages of which none is sold", '[{"id":1,"method":"ping"},' + call('"name":"echo"') + "]", "free"),
        ("notified-call", "who is not answered is sold nothing", call(before=""), "mcp_message"),
        ("task", "a sold tool is not run as a task", call('"name":"render","task":{}'), "mcp_task"),
        ("batch-sold", "a sold tool is called alone", "[" + call() + "]", "mcp_batch"),
        ("batch-paid", "and paid for alone", "[" + call(f'"name":"echo",{paid}') + "]", "mcp_batch"),
        ("batch-alike", "nor is what could be taken for it called in a batch", "[" + call('"name":"Render"') + "]", "mcp_batch"),
        ("batch-empty", "no message", "[]", "mcp_message"),
        ("batch-nested", "a batch in a batch", "[[" + call() + "]]", "mcp_message"),
        ("tool-case", "a name that a server could take for it", call('"name":"Render"'), "mcp_tool"),
        ("tool-space", "with a space", call('"name":"render "'), "mcp_tool"),
        ("tool-zero", "with a zero", call('"name":"render\\u0000"'), "mcp_tool"),
        ("tool-dot", "with a dot at its end", call('"name":"render."'), "mcp_tool"),
        ("tool-wide", "with a letter that looks like one", call('"name":"\uff52ender"'), "mcp_tool"),
        ("tool-escape", "with an escape of URLs", call('"name":"%72ender"'), "mcp_tool"),
        ("tool-empty", "no name", call('"name":""'), "mcp_tool"),
        ("tool-list", "a name is a text", call('"name":["render"]'), "mcp_message"),
        ("tool-missing", "a call names its tool", call('"arguments":{}'), "mcp_message"),
        ("params-list", "parameters by name", '{"id":1,"method":"tools/call","params":["render"]}', "mcp_message"),
        ("params-missing", "no parameters", '{"id":1,"method":"tools/call"}', "mcp_message"),
        ("name-twice", "a member twice", call('"name":"echo","name":"render"'), "mcp_message"),
        ("name-alike", "a member that some readers take for another", call('"name":"echo","Name":"render"'), "mcp_message"),
        ("method-twice", "a method twice", '{"id":1,"method":"ping","method":"tools/call","params":{"name":"render"}}', "mcp_message"),
        ("method-alike", "the same of the method", '{"id":1,"method":"ping","Method":"tools/call","params":{"name":"render"}}', "mcp_message"),
        ("params-alike", "and in another alphabet", '{"id":1,"method":"ping","param\u017f":{"name":"render"}}', "mcp_message"),
        ("method-case", "a method that some servers would call", '{"id":1,"method":"Tools/Call","params":{"name":"render"}}', "mcp_message"),
        ("method-space", "with a space", '{"id":1,"method":"tools/call ","params":{"name":"render"}}', "mcp_message"),
        ("method-slashes", "with two slashes", '{"id":1,"method":"tools//call","params":{"name":"render"}}', "mcp_message"),
        ("method-list", "a method is a text", '{"id":1,"method":["tools/call"],"params":{"name":"render"}}', "mcp_message"),
        ("method-missing", "neither a method nor an answer", '{"id":1,"params":{"name":"render"}}', "mcp_message"),
        ("call-and-answer", "a call or an answer", '{"id":1,"method":"tools/call","params":{"name":"render"},"result":{}}', "mcp_message"),
        ("id-null", "an id is not null", call(before='"id":null,'), "mcp_message"),
        ("id-fraction", "an id is whole", call(before='"id":1.5,'), "mcp_message"),
        ("id-huge", "an id has 64 bits at most", call(before='"id":18446744073709551616,'), "mcp_message"),
        ("id-object", "an id is a number or a text", call(before='"id":{},'), "mcp_message"),
        ("id-own", "ids of the gateway are its own", call(before='"id":"kas402call1",'), "mcp_message"),
        ("cancel-own", "nobody cancels what the gateway called", '{"method":"notifications/cancelled","params":{"requestId":"kas402call1"}}', "mcp_message"),
        ("meta-number", "metadata is an object", call('"name":"render","_meta":7'), "mcp_message"),
        ("meta-alike", "a member that some readers take for the metadata", call('"name":"echo","_META":{"x402/payment":1}'), "mcp_message"),
        ("payment-alike", "a payment that some readers would find", call('"name":"echo","_meta":{"X402/Payment":1}'), "mcp_message"),
        ("two-messages", "one document", '{"id":1,"method":"ping"}\n' + call(), "mcp_message"),
        ("byte-order-mark", "JSON has none", "\ufeff" + call(), "mcp_message"),
        ("number", "a message is an object", "7", "mcp_message"),
        ("nothing", "no message", "", "mcp_message"),
        ("deep", "deeper than may be", call('"name":"render","arguments":' + "[" * 100 + "]" * 100), "mcp_message"),
    ]:
        try:
            told = posted(body, ["render"])
            expected, word = {"message": told}, "sold" if told["sold"] else "free"
        except Refused as refused:
            expected, word = {"error": str(refused)}, str(refused)
        assert word == expect, (name, word)
        cases.append({"name": name, "reason": reason, "input": {"sold": ["render"], "body": body}, "expected": expected})
    yield "mcp-message", {"kind": "mcp-message", "cases": cases}


def verdict(result):
    """What the result of a tool says of itself; None when it is none."""
    if not isinstance(result, dict):
        return None
    error, kind = result.get("isError"), result.get("resultType")
    if error not in (None, True, False) or kind not in (None, "complete", "input_required"):
        return None
    return {"isError": error is True, "resultType": kind or "complete"}


def answered(given):
    """The message for the client, and what a result says."""
    put = lambda member, value: {"jsonrpc": "2.0", "id": json.loads(given["id"]), member: value}
    if "refusal" in given:
        words = given["refusal"]
        result = {"content": [{"type": "text", "text": canonical(words)}], "isError": True, "structuredContent": words}
        if given["tagged"]:
            result["resultType"] = "complete"
        meta = {"x402/payment-response": given["receipt"]} if "receipt" in given else {}
        if "retryAfterSeconds" in given:
            meta["kas402/retry-after-seconds"] = given["retryAfterSeconds"]
        return put("result", result | ({"_meta": meta} if meta else {})), None
    member, home = ("error", "data") if "error" in given else ("result", "_meta")
    value = json.loads(given[member])
    says = verdict(value) if member == "result" else None
    if not isinstance(value, dict):
        return None, says
    if "receipt" in given:
        held = value.get(home)
        if member == "error" and home in value and not isinstance(held, dict):
            return put(member, value), says
        value[home] = (held if isinstance(held, dict) else {}) | {"x402/payment-response": given["receipt"]}
    return put(member, value), says


def mcp_answers():
    receipt = {"success": True, "transaction": "ab" * 32, "network": "kaspa:simnet", "amount": "25000000"}
    offer = {"x402Version": 2, "accepts": [], "error": "payment_required", "resource": {"url": "https://api.example.com/mcp"}}
    result = lambda text, **more: {"id": "7", "result": text} | more
    cases = []
    for name, reason, given in [
        ("result", "what the server said, under the client's own id", result('{"content":[{"type":"text","text":"hi"}],"x":1.5}')),
        ("receipt", "with the receipt in its metadata", result('{"content":[]}', receipt=receipt)),
        ("receipt-beside", "beside what stands there", result('{"content":[],"_meta":{"a":1}}', receipt=receipt)),
        ("receipt-over-null", "metadata that is none gives way", result('{"content":[],"_meta":null}', receipt=receipt)),
        ("receipt-replaces", "a receipt of the server's own is none",
         result('{"content":[],"_meta":{"x402/payment-response":{"success":true,"amount":"1"}}}', receipt=receipt)),
        ("text-id", "an id may be a text", result("{}", id='"a"')),
        ("failed", "a result may be an error of the tool", result('{"content":[],"isError":true}', receipt=receipt)),
        ("tagged", "from the revision 2026-07-28 on a result says what it is", result('{"resultType":"complete","isError":null}')),
        ("asks", "and may ask for more: nothing is served yet", result('{"resultType":"input_required"}')),
        ("refusal", "an offer, as a result that failed, and as text", {"id": "7", "refusal": offer, "tagged": False}),
        ("refusal-tagged", "which says that it is one", {"id": "7", "refusal": offer, "tagged": True}),
        ("refusal-receipt", "with the receipt of the failure and when to ask again", {
            "id": "7", "refusal": offer, "tagged": False, "retryAfterSeconds": 5,
            "receipt": {"success": False, "errorReason": "invalid_payload", "transaction": "", "network": "kaspa:simnet"}}),
        ("error", "an error of the server", {"id": "7", "error": '{"code":-32000,"message":"no"}'}),
        ("error-receipt", "the receipt of a payment that is still good", {"id": "7", "error": '{"code":-32000,"message":"no"}', "receipt": receipt}),
        ("error-receipt-beside", "beside what stands there", {"id": "7", "error": '{"code":1,"message":"no","data":{"a":1}}', "receipt": receipt}),
        ("error-data-text", "data of another kind are left alone", {"id": "7", "error": '{"code":1,"message":"no","data":"x"}', "receipt": receipt}),
        ("not-an-object", "a result is an object", result("[]", receipt=receipt)),
        ("number", "and no number", result("7")),
        ("error-list", "an error is an object", {"id": "7", "error": "[]", "receipt": receipt}),
        ("error-flag-text", "whether it is an error is true or false", result('{"isError":"yes"}')),
        ("kind-unknown", "a kind of result that nobody knows", result('{"resultType":"task"}')),
    ]:
        message, says = answered(given)
        cases.append({"name": name, "reason": reason, "input": given, "expected": {"message": message, "verdict": says}})
    yield "mcp-answer", {"kind": "mcp-answer", "cases": cases}


def cases():
    yield from canonical_texts()
    yield from mcp_messages()
    yield from mcp_answers()
