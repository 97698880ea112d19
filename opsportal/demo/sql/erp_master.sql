-- What is there before the first order. Parameters: since (the company's first day in these tables).
INSERT INTO users (id, login, full_name, department, email, active, created_at)
SELECT i, lower(left(first, 1)) || '.' || lower(last) || i, first || ' ' || last,
       pg_temp.word(pg_temp.departments(), i, 3), lower(left(first, 1)) || '.' || lower(last) || i || '@hansewerk.example',
       pg_temp.pick(i, 4, 12) > 0, %(since)s::timestamptz - make_interval(days => pg_temp.pick(i, 5, 1500))
FROM generate_series(1, 48) i,
     LATERAL (SELECT pg_temp.word(pg_temp.first_names(), i, 1) AS first, pg_temp.word(pg_temp.last_names(), i, 2) AS last) n;

INSERT INTO customers (id, number, company, contact, email, street, postal_code, city, country, credit_limit,
                       account_manager_id, created_at)
SELECT i, 'C' || 10000 + i, company, contact, 'einkauf@' || lower(regexp_replace(company, '[^A-Za-z]+', '-', 'g')) || '.example',
       pg_temp.word(pg_temp.streets(), i, 15) || ' ' || 1 + pg_temp.pick(i, 16, 140),
       split_part(city, '|', 2) || lpad(pg_temp.pick(i, 18, 1000)::text, 3, '0'), split_part(city, '|', 1),
       split_part(city, '|', 3), 500 * (1 + pg_temp.pick(i, 19, 60)), 1 + pg_temp.pick(i, 20, 48),
       %(since)s::timestamptz - make_interval(hours => pg_temp.pick(i, 21, 40000))
FROM generate_series(1, 3200) i,
     LATERAL (SELECT pg_temp.word(pg_temp.firms(), i, 11) || ' ' || pg_temp.word(pg_temp.trades(), i, 12) || ' '
                     || pg_temp.word(ARRAY['GmbH', 'GmbH', 'KG', 'AG', 'e. K.', '& Söhne'], i, 13) AS company,
                     pg_temp.word(pg_temp.first_names(), i, 14) || ' ' || pg_temp.word(pg_temp.last_names(), i, 22) AS contact,
                     pg_temp.word(pg_temp.cities(), i, 17) AS city) n;

INSERT INTO suppliers (id, company, contact, city, country, lead_time_days, created_at)
SELECT i, pg_temp.word(pg_temp.last_names(), i, 31) || ' ' || pg_temp.word(pg_temp.trades(), i, 32),
       pg_temp.word(pg_temp.first_names(), i, 33) || ' ' || pg_temp.word(pg_temp.last_names(), i, 34),
       split_part(city, '|', 1), split_part(city, '|', 3), 2 + pg_temp.pick(i, 36, 40),
       %(since)s::timestamptz - make_interval(days => pg_temp.pick(i, 37, 2500))
FROM generate_series(1, 140) i, LATERAL (SELECT pg_temp.word(pg_temp.cities(), i, 35) AS city) n;

INSERT INTO products (id, sku, name, supplier_id, purchase_price, sales_price, attributes, thumbnail, created_at)
SELECT i, upper(left(good, 3)) || '-' || lpad(i::text, 5, '0'),
       good || ' ' || pg_temp.word(pg_temp.qualities(), i, 42) || ' ' || 10 * (1 + pg_temp.pick(i, 43, 90)),
       1 + pg_temp.pick(i, 44, 140), round(price * 0.62, 2), price,
       jsonb_build_object('weight_g', 40 + pg_temp.pick(i, 46, 9000), 'colour',
                          pg_temp.word(ARRAY['schwarz', 'blau', 'rot', 'grün', 'natur'], i, 47),
                          'pack', 1 + pg_temp.pick(i, 48, 12), 'tags',
                          jsonb_build_array(lower(pg_temp.word(pg_temp.qualities(), i, 42)), lower(good))),
       CASE WHEN pg_temp.pick(i, 49, 5) > 0
            THEN '\x89504e470d0a1a0a'::bytea || sha512(good::bytea) || sha512(i::text::bytea) END,
       %(since)s::timestamptz - make_interval(hours => pg_temp.pick(i, 50, 30000))
FROM generate_series(1, 1800) i,
     LATERAL (SELECT pg_temp.word(pg_temp.goods(), i, 41) AS good,
                     round((3 + pg_temp.pick(i, 45, 400) ^ 1.15)::numeric, 1) - 0.05 AS price) n;

INSERT INTO warehouses (id, code, name, city) VALUES
    (1, 'HH1', 'Zentrallager Hamburg', 'Hamburg'), (2, 'KS1', 'Regionallager Kassel', 'Kassel'),
    (3, 'UL1', 'Regionallager Ulm', 'Ulm'), (4, 'GD1', 'Magazyn Gdańsk', 'Gdańsk');

INSERT INTO stock (product_id, warehouse_id, quantity, reorder_level, counted_at)
SELECT p, w, pg_temp.pick(p * 4 + w, 51, 900), 20 + pg_temp.pick(p, 52, 80),
       %(since)s::timestamptz + make_interval(hours => pg_temp.pick(p * 4 + w, 53, 8000))
FROM generate_series(1, 1800) p, generate_series(1, 4) w;
