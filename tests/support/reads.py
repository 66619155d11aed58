"""How many index entries and rows a database read, by its own statistics."""

from __future__ import annotations

from django.db import connection

# SQLite counts the steps of its machine, in hundreds, of which an entry takes about ten.
STEPS = 100


def start_counting() -> None:
    """Let the database learn what its tables hold now, and count from here on."""
    with connection.cursor() as cursor:
        analyze = {"mysql": "ANALYZE TABLE actor_runs_run", "sqlite": "ANALYZE"}
        cursor.execute(analyze.get(connection.vendor, "VACUUM ANALYZE actor_runs_run"))
    if connection.vendor == "sqlite":
        connection.connection.set_progress_handler(steps, STEPS)


def entries_read() -> int:
    """Return how many entries of indexes and rows were read of the runs' table so far."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_stat_force_next_flush()")
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute("""
                SELECT t.seq_tup_read + SUM(i.idx_tup_read)
                FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)
                WHERE t.relname = 'actor_runs_run' GROUP BY t.seq_tup_read
            """)
            return int(cursor.fetchone()[0])
        if connection.vendor == "mysql":
            cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
            return sum(int(value) for name, value in cursor if "retry" not in name.lower())
    return steps.taken // STEPS


class Steps:
    """Counts the steps that SQLite takes."""

    taken = 0

    def __call__(self) -> None:
        self.taken += STEPS


steps = Steps()
