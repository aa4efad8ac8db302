"""Sums the task_usage table of a google-2011 trace in DuckDB, a slice of time at a time.

Arguments: the folder of the trace, and the rows of all of its tables, as which a pass counts. Says `ready`; then each line of stdin is a number of seconds to work
for, answered by the rows that were read and the seconds that it took.
"""

import sys
import time

import duckdb

SQL = """
select column04 as machine, column00 // 300000000 as slot,
       sum(column05 * (column01 - column00)), sum(column06 * (column01 - column00)), count(*)
from read_csv(?, header = false, auto_detect = false, delim = ',', columns = {columns})
group by 1, 2
"""
NAMES = [f"column{at:02}" for at in range(20)]
# Whole numbers are ids and times; the rest are amounts.
TYPES = {0: "BIGINT", 1: "BIGINT", 2: "BIGINT", 3: "BIGINT", 4: "BIGINT", 18: "BIGINT", 19: "BIGINT"}


def main():
    parts = sys.argv[1] + "/task_usage/*"
    columns = ", ".join(f"'{name}': '{TYPES.get(at, 'DOUBLE')}'" for at, name in enumerate(NAMES))
    connection = duckdb.connect(config={"threads": 1})
    query = SQL.replace("{columns}", "{" + columns + "}")

    def rows():
        if not connection.execute(query, [parts]).fetchall():
            sys.exit(f"no rows in {parts}")
        return int(sys.argv[2])

    rows()
    print("ready", duckdb.__version__, flush=True)
    for line in sys.stdin:
        began, done = time.monotonic(), 0
        while time.monotonic() - began < float(line):
            done += rows()
        print(done, time.monotonic() - began, flush=True)


main()
