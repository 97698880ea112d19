-- The trade between two moments: orders come in, older ones are shipped, billed and paid.
-- Parameters: since (inclusive), until (exclusive), minimum (orders at least, however quiet the time was).
CREATE TEMPORARY TABLE arrivals ON COMMIT DROP AS
WITH wished AS (
    SELECT (day + interval '6 hours' + make_interval(secs => pg_temp.pick(k, to_char(day, 'YYYYMMDD')::int, 46000)))
           AT TIME ZONE 'Europe/Berlin' AS at
    FROM generate_series(date_trunc('day', %(since)s::timestamptz AT TIME ZONE 'Europe/Berlin'),
                         %(until)s::timestamptz AT TIME ZONE 'Europe/Berlin', interval '1 day') day,
         LATERAL (SELECT (ARRAY[6, 72, 79, 75, 76, 66, 19])[1 + extract(dow FROM day)::int]
                         + pg_temp.pick(to_char(day, 'YYYYMMDD')::int, 61, 13)) n(orders),
         generate_series(1, n.orders) k
), real AS (
    SELECT at FROM wished WHERE at >= %(since)s::timestamptz AND at < %(until)s::timestamptz
)
SELECT at FROM real
UNION ALL
SELECT %(until)s::timestamptz - make_interval(secs => 7 * k)
FROM generate_series(1, greatest(0, %(minimum)s - (SELECT count(*) FROM real))::int) k;

WITH numbered AS (
    SELECT (SELECT coalesce(max(id), 0) FROM orders) + row_number() OVER (ORDER BY at) AS id, at FROM arrivals
), planned AS (
    SELECT id, at, 1 + pg_temp.pick(id, 71, 3200) AS customer, pg_temp.pick(id, 72, 50) = 0 AS cancelled,
           at + make_interval(secs => 10800 + pg_temp.pick(id, 73, 108000)) AS ready
    FROM numbered
)
INSERT INTO orders (id, number, customer_id, taken_by_id, status, channel, shipping_address, placed_at, shipped_at)
SELECT p.id, 'SO-' || to_char(at, 'YYYY') || '-' || lpad(p.id::text, 6, '0'), customer, 1 + pg_temp.pick(p.id, 74, 48),
       CASE WHEN cancelled THEN 'cancelled' WHEN ready < %(until)s::timestamptz THEN 'shipped' ELSE 'open' END,
       pg_temp.word(ARRAY['shop', 'shop', 'shop', 'telephone', 'e-mail', 'EDI', 'EDI'], p.id, 75),
       jsonb_build_object('company', c.company, 'street', c.street, 'city', c.postal_code || ' ' || c.city),
       at, CASE WHEN NOT cancelled AND ready < %(until)s::timestamptz THEN ready END
FROM planned p JOIN customers c ON c.id = customer ORDER BY p.id;

INSERT INTO order_lines (id, order_id, position, product_id, quantity, unit_price, discount_percent)
SELECT (SELECT coalesce(max(id), 0) FROM order_lines) + row_number() OVER (ORDER BY o.id, n), o.id, n, p.id,
       1 + pg_temp.pick(o.id * 7 + n, 82, 24), p.sales_price, 2.5 * greatest(0, pg_temp.pick(o.id, 83, 9) - 4)
FROM orders o, generate_series(1, 1 + pg_temp.pick(o.id, 80, 5)) n,
     LATERAL (SELECT 1 + pg_temp.pick(o.id * 7 + n, 81, 1800) AS product) chosen
     JOIN products p ON p.id = chosen.product
WHERE o.placed_at >= %(since)s::timestamptz;

UPDATE orders SET status = 'shipped', shipped_at = placed_at + make_interval(secs => 10800 + pg_temp.pick(id, 73, 108000))
WHERE status = 'open' AND placed_at + make_interval(secs => 10800 + pg_temp.pick(id, 73, 108000)) < %(until)s::timestamptz;

CREATE TEMPORARY TABLE moved ON COMMIT DROP AS
SELECT l.product_id, 1 + pg_temp.pick(o.customer_id, 85, 4) AS warehouse_id, l.id AS line, -l.quantity AS quantity,
       'shipment' AS kind, o.shipped_at AS at
FROM orders o JOIN order_lines l ON l.order_id = o.id
WHERE o.shipped_at >= %(since)s::timestamptz
UNION ALL
SELECT 1 + pg_temp.pick(k, 86, 1800), 1 + pg_temp.pick(k, 87, 4), NULL, 20 + pg_temp.pick(k, 88, 400), 'receipt',
       to_timestamp(k * 4800)
FROM generate_series(ceil(extract(epoch FROM %(since)s::timestamptz) / 4800)::bigint,
                     (extract(epoch FROM %(until)s::timestamptz) / 4800)::bigint) k;

INSERT INTO stock_movements (id, product_id, warehouse_id, order_line_id, quantity, kind, moved_at)
SELECT (SELECT coalesce(max(id), 0) FROM stock_movements) + row_number() OVER (ORDER BY at, line),
       product_id, warehouse_id, line, quantity, kind, at
FROM moved WHERE at < %(until)s::timestamptz;

UPDATE stock s SET quantity = greatest(0, s.quantity + m.quantity)
FROM (SELECT product_id, warehouse_id, sum(quantity) AS quantity FROM moved GROUP BY 1, 2) m
WHERE s.product_id = m.product_id AND s.warehouse_id = m.warehouse_id
  AND %(until)s::timestamptz - %(since)s::timestamptz < interval '60 days';

INSERT INTO invoices (id, number, order_id, net_amount, tax_amount, issued_at, due_on)
SELECT n, 'RE-' || lpad(n::text, 7, '0'), id, net, round(net * 0.19, 2), shipped_at, shipped_at::date + 30
FROM (SELECT (SELECT coalesce(max(id), 0) FROM invoices) + row_number() OVER (ORDER BY o.shipped_at, o.id) AS n, o.id,
             o.shipped_at, sum(round(l.quantity * l.unit_price * (1 - l.discount_percent / 100), 2)) AS net
      FROM orders o JOIN order_lines l ON l.order_id = o.id
      WHERE o.shipped_at >= %(since)s::timestamptz GROUP BY o.id, o.shipped_at) billed;

INSERT INTO payments (id, invoice_id, amount, method, reference, received_at)
SELECT (SELECT coalesce(max(id), 0) FROM payments) + row_number() OVER (ORDER BY paid, id), id, net_amount + tax_amount,
       pg_temp.word(ARRAY['transfer', 'transfer', 'transfer', 'direct debit', 'card'], id, 91),
       'EREF ' || upper(left(md5(number), 12)), paid
FROM (SELECT *, issued_at + make_interval(hours => 40 + pg_temp.pick(id, 92, 880)) AS paid FROM invoices
      WHERE pg_temp.pick(id, 93, 25) > 0) due
WHERE paid >= %(since)s::timestamptz AND paid < %(until)s::timestamptz;

INSERT INTO audit_notes (id, order_id, user_id, note, details, written_at)
SELECT (SELECT coalesce(max(id), 0) FROM audit_notes) + row_number() OVER (ORDER BY placed_at, id), id, taken_by_id,
       pg_temp.word(pg_temp.remarks(), id, 95),
       jsonb_build_object('channel', channel, 'call', left(md5(number), 8)),
       least(placed_at + make_interval(secs => pg_temp.pick(id, 96, 5400)), %(until)s::timestamptz)
FROM orders WHERE placed_at >= %(since)s::timestamptz AND pg_temp.pick(id, 94, 4) > 0;

SELECT setval(pg_get_serial_sequence(t, 'id'), greatest(1, n)) FROM (VALUES
    ('users', (SELECT max(id) FROM users)), ('customers', (SELECT max(id) FROM customers)),
    ('suppliers', (SELECT max(id) FROM suppliers)), ('products', (SELECT max(id) FROM products)),
    ('warehouses', (SELECT max(id) FROM warehouses)), ('orders', (SELECT max(id) FROM orders)),
    ('order_lines', (SELECT max(id) FROM order_lines)), ('stock_movements', (SELECT max(id) FROM stock_movements)),
    ('invoices', (SELECT max(id) FROM invoices)), ('payments', (SELECT max(id) FROM payments)),
    ('audit_notes', (SELECT max(id) FROM audit_notes))) s(t, n);
