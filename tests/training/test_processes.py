import pytest

from helpers import tasks
from manyscale.errors import DataError, RunError
from manyscale.progress import Silent
from manyscale.training.processes import run_processes


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_the_first_of_the_processes_is_heard():
    heard = Lines()
    run_processes(tasks.tell, 2, heard)
    assert heard.lines == ["0 of 2"]


@pytest.mark.parametrize(
    ("work", "error", "said"),
    [
        (tasks.refuse_in_the_second, DataError, "event 7 is odd"),
        (tasks.lose_each_other, RunError, "process 1 .* by SIGKILL, perhaps for lack of memory"),
    ],
)
def test_where_one_fails_the_cause_is_named_and_the_others_are_ended(work, error, said):
    with pytest.raises(error, match=said):
        run_processes(work, 2, Silent())
