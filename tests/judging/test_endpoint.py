"""The endpoint judge against a real server on this machine that speaks the protocol."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlhf_rm.data.types import Message
from rlhf_rm.errors import UserError
from rlhf_rm.judging.base import LOSE, NO_ANSWER, TIE, WIN, Comparison
from rlhf_rm.judging.endpoint import EndpointJudge

pytest.importorskip("openai")
QUESTION = "<{prompt}> First: <{first}> Second: <{second}>"
COMPARISONS = [
    Comparison((Message("user", f"question {i} with {{first}}"),), f"good {i}", f"bad {i}") for i in range(40)
]


@pytest.fixture
def server():
    """Answers as ``answer`` says, and remembers what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            status, content = made.answer(body["messages"][0]["content"])
            message = {"role": "assistant", "content": content}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            told = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            data = json.dumps(told if status == 200 else {"error": {"message": content}}).encode()
            if status == 200 and content == "garbage":
                data = b"{not json"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.answer = [], knows
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def knows(question):
    first = re.search("First: <(.*)> Second", question)[1]
    return 200, "I think [[B]] at first. " + ("[[A]]" if first.startswith("good") else "[[B]]")


@pytest.fixture
def make(server, tmp_path):
    def make(**changes):
        settings = {
            "question": QUESTION, "question_file": None, "key_variable": "JUDGE_KEY",
            "cache_dir": str(tmp_path), "max_tokens": 20, "timeout": 5.0,
            "retries": 0, "at_once": 4, "seed": 0,
        }  # fmt: skip
        base_url = f"http://127.0.0.1:{server.server_port}/v1"
        return EndpointJudge(base_url, "m", **settings | changes)

    return make


def test_the_better_one_wins_whichever_comes_first(make, server):
    assert make().verdicts(COMPARISONS) == [WIN] * 40
    turned = [Comparison(one.messages, one.b, one.a) for one in COMPARISONS]
    assert make().verdicts(turned) == [LOSE] * 40
    assert {path for path, *_ in server.asked} == {"/v1/chat/completions"}
    question = server.asked[0][2]["messages"][0]["content"]
    assert "question 0 with {first}>" in question or "with {first}>" in question


def test_a_judge_that_favours_a_place_favours_nobody(make, server):
    server.answer = lambda question: (200, "[[A]]")
    verdicts = make().verdicts(COMPARISONS)
    assert 10 <= verdicts.count(WIN) <= 30 and verdicts.count(WIN) + verdicts.count(LOSE) == 40
    turned = [Comparison(one.messages, one.b, one.a) for one in COMPARISONS]
    opposite = {WIN: LOSE, LOSE: WIN}
    assert make().verdicts(turned) == [opposite[one] for one in verdicts]
    assert make(seed=1).verdicts(COMPARISONS) != verdicts


def test_a_tie_is_a_tie(make, server):
    server.answer = lambda question: (200, "Both are fine. [[C]]")
    assert make().verdicts(COMPARISONS[:3]) == [TIE] * 3


def test_the_same_question_costs_nothing_twice(make, server):
    first = make().verdicts(COMPARISONS)
    count = len(server.asked)
    assert make().verdicts(COMPARISONS) == first and len(server.asked) == count == 40
    make(max_tokens=21).verdicts(COMPARISONS[:2])
    assert len(server.asked) == 42


ANSWERS = [(200, "no verdict"), (200, None), (200, "garbage"), (500, "down"), (401, "who are you?")]


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_no_answer_is_nobodys_win_and_is_asked_again(make, server, answer):
    server.answer = lambda question: knows(question) if "question 0" in question else answer
    assert make().verdicts(COMPARISONS[:3]) == [WIN, NO_ANSWER, NO_ANSWER]
    server.answer = knows
    assert make().verdicts(COMPARISONS[:3]) == [WIN] * 3


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_endpoint_that_never_answers_is_an_error_with_its_last_words(make, server, answer):
    server.answer = lambda question: answer
    words = {"garbage": "Expecting property name", "no verdict": "holds no verdict: no verdict"}
    said = re.escape(words.get(answer[1], str(answer[1])))
    with pytest.raises(UserError, match=f"none of 3 questions .*{said}.*=m and the key in JUDGE_KEY"):
        make().verdicts(COMPARISONS[:3])
    assert make().verdicts([]) == []


def test_an_endpoint_that_times_out_or_fails_once(make, server):
    def slow(question):
        if "question 0" in question:
            time.sleep(0.5)
        return knows(question)

    server.answer = slow
    assert make(timeout=0.3).verdicts(COMPARISONS[:2]) == [NO_ANSWER, WIN]
    failures = iter([(500, "busy")])
    server.answer = lambda question: next(failures, None) or knows(question)
    assert make(retries=2).verdicts(COMPARISONS[2:3]) == [WIN]


def test_the_key_comes_from_the_environment_and_is_kept_nowhere(make, server, monkeypatch, tmp_path):
    monkeypatch.setenv("JUDGE_KEY", "very-secret")
    make().verdicts(COMPARISONS[:1])
    assert server.asked[0][1]["authorization"] == "Bearer very-secret"
    kept = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept and not any("very-secret" in text for text in kept)


def test_a_question_of_ones_own_must_show_what_is_judged(make, tmp_path):
    (tmp_path / "question.txt").write_text("{prompt} {first}")
    with pytest.raises(UserError, match=r"lacks \{second\}"):
        make(question_file=str(tmp_path / "question.txt"))
    with pytest.raises(UserError, match="is no file"):
        make(question_file=str(tmp_path / "none.txt"))
