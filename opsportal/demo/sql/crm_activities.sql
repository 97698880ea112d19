-- What sales did before a moment. Parameters: until, first (a number the choices depend on), number (how many).
INSERT INTO activities (contact_id, kind, summary, happened_at)
SELECT 1 + pg_temp.pick(i, 131, 1400), pg_temp.word(ARRAY['call', 'call', 'e-mail', 'e-mail', 'visit', 'fair'], i, 132),
       pg_temp.word(pg_temp.remarks(), i, 133),
       %(until)s::timestamptz - make_interval(mins => pg_temp.pick(i, 134, 120 * %(number)s))
FROM generate_series(%(first)s::bigint, %(first)s::bigint + %(number)s - 1) i;
