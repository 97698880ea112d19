ALTER TABLE users ADD PRIMARY KEY (id), ADD UNIQUE (login);
ALTER TABLE customers ADD PRIMARY KEY (id), ADD UNIQUE (number), ADD FOREIGN KEY (account_manager_id) REFERENCES users;
ALTER TABLE suppliers ADD PRIMARY KEY (id);
ALTER TABLE products ADD PRIMARY KEY (id), ADD UNIQUE (sku), ADD FOREIGN KEY (supplier_id) REFERENCES suppliers;
ALTER TABLE warehouses ADD PRIMARY KEY (id), ADD UNIQUE (code);
ALTER TABLE stock ADD PRIMARY KEY (product_id, warehouse_id), ADD FOREIGN KEY (product_id) REFERENCES products,
    ADD FOREIGN KEY (warehouse_id) REFERENCES warehouses;
ALTER TABLE orders ADD PRIMARY KEY (id), ADD UNIQUE (number), ADD FOREIGN KEY (customer_id) REFERENCES customers,
    ADD FOREIGN KEY (taken_by_id) REFERENCES users;
ALTER TABLE order_lines ADD PRIMARY KEY (id), ADD UNIQUE (order_id, position),
    ADD FOREIGN KEY (order_id) REFERENCES orders, ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE stock_movements ADD PRIMARY KEY (id), ADD FOREIGN KEY (order_line_id) REFERENCES order_lines,
    ADD FOREIGN KEY (product_id, warehouse_id) REFERENCES stock;
ALTER TABLE invoices ADD PRIMARY KEY (id), ADD UNIQUE (number), ADD FOREIGN KEY (order_id) REFERENCES orders;
ALTER TABLE payments ADD PRIMARY KEY (id), ADD FOREIGN KEY (invoice_id) REFERENCES invoices;
ALTER TABLE audit_notes ADD PRIMARY KEY (id), ADD FOREIGN KEY (order_id) REFERENCES orders,
    ADD FOREIGN KEY (user_id) REFERENCES users;
CREATE INDEX customers_company ON customers (lower(company));
CREATE INDEX products_attributes ON products USING gin (attributes);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_placed ON orders (placed_at);
CREATE INDEX orders_open ON orders (placed_at) WHERE status = 'open';
CREATE INDEX order_lines_product ON order_lines (product_id);
CREATE INDEX stock_movements_line ON stock_movements (order_line_id);
CREATE INDEX stock_movements_product ON stock_movements (product_id, moved_at);
CREATE INDEX invoices_order ON invoices (order_id);
CREATE INDEX payments_invoice ON payments (invoice_id);
CREATE INDEX audit_notes_order ON audit_notes (order_id);

CREATE VIEW order_totals AS
SELECT o.id, o.number, c.company, o.status, o.placed_at, count(*) AS positions,
       sum(round(l.quantity * l.unit_price * (1 - l.discount_percent / 100), 2)) AS net_amount
FROM orders o JOIN customers c ON c.id = o.customer_id JOIN order_lines l ON l.order_id = o.id
GROUP BY o.id, c.company;
COMMENT ON VIEW order_totals IS 'What the sales department looks at every morning.';
