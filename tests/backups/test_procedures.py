import time
from tests.factories import SAMPLE_ROWS

def test_time(shop):
    t=time.monotonic()
    op=shop.done(shop.back_up()); print("backup", time.monotonic()-t); t=time.monotonic()
    for s in op.steps.all(): print("   ", s.name, s.seconds)
    shop.database.lose_orders()
    op=shop.done(shop.restore(op.archive)); print("restore", time.monotonic()-t)
    for s in op.steps.all(): print("   ", s.name, s.seconds)
    assert shop.database.rows()==SAMPLE_ROWS
    shop.assert_nothing_left()
