"""The exercise of lesson 00."""

from __future__ import annotations

from pglab.exercises import Problem, Rows, Solution, Wrong

__all__ = ["PROBLEMS"]

PROBLEMS = (
    Problem(
        id="start_here.1",
        title="The busiest chats",
        prompt="""\
Which three chats of the instance `sciencebot-production` have the most messages? Show each chat's
`name` and the number of its `messages`, the busiest first.""",
        starter="-- your query here",
        answer="query",
        checks=(
            Rows(
                order_by=("messages",),
                pool="""
                    SELECT c.name, count(*) AS messages
                    FROM messages AS m
                    JOIN chats AS c ON c.id = m.chat_id
                    JOIN instances AS i ON i.id = c.instance_id
                    WHERE i.name = 'sciencebot-production'
                    GROUP BY c.id, c.name""",
            ),
        ),
        solutions=(
            Solution(
                sql="""\
SELECT c.name, count(*) AS messages
FROM messages AS m
JOIN chats AS c ON c.id = m.chat_id
JOIN instances AS i ON i.id = c.instance_id
WHERE i.name = 'sciencebot-production'
GROUP BY c.id, c.name
ORDER BY messages DESC
LIMIT 3""",
                why="It groups by `c.id` as well as by the name: two people may have the same "
                "name, and are still two chats.",
            ),
            Solution(
                sql="""\
SELECT name, messages
FROM (SELECT chat_id, count(*) AS messages FROM messages GROUP BY chat_id) AS counted
JOIN chats ON chats.id = counted.chat_id
WHERE instance_id = (SELECT id FROM instances WHERE name = 'sciencebot-production')
ORDER BY messages DESC
LIMIT 3""",
                why="Counting first and joining afterwards joins one row for each chat instead of "
                "one for each message.",
            ),
        ),
        wrong=(
            Wrong(
                sql="""
SELECT c.name
FROM messages AS m
JOIN chats AS c ON c.id = m.chat_id
JOIN instances AS i ON i.id = c.instance_id
WHERE i.name = 'sciencebot-production'
GROUP BY c.id
ORDER BY count(*) DESC
LIMIT 3""",
                says="The column messages is missing.",
            ),
            Wrong(
                sql="""
SELECT c.name, count(*) AS messages
FROM messages AS m
JOIN chats AS c ON c.id = m.chat_id
JOIN instances AS i ON i.id = c.instance_id
WHERE i.name = 'sciencebot-production'
GROUP BY c.id
ORDER BY messages
LIMIT 3""",
                says="none of them is",
            ),
            Wrong(
                sql="""
SELECT c.name, count(*) AS messages
FROM messages AS m
JOIN chats AS c ON c.id = m.chat_id
JOIN instances AS i ON i.id = c.instance_id
WHERE i.name = 'sciencebot-production'
GROUP BY c.id
ORDER BY messages DESC""",
                says="Far too many rows: 3 expected",
            ),
            Wrong(
                sql="""
SELECT name, messages
FROM (SELECT c.name, count(*) AS messages
      FROM messages AS m
      JOIN chats AS c ON c.id = m.chat_id
      JOIN instances AS i ON i.id = c.instance_id
      WHERE i.name = 'sciencebot-production'
      GROUP BY c.id ORDER BY messages DESC LIMIT 3) AS busiest
ORDER BY messages""",
                says="The right rows in the wrong order",
            ),
        ),
        hints=(
            """\
Begin with the query over instances above: join `chats` as well, and filter by the instance's name
with `WHERE`.""",
            """\
Group by the chat (`GROUP BY c.id, c.name`), sort by the count, downwards, and end with
`LIMIT 3`.""",
        ),
    ),
)
