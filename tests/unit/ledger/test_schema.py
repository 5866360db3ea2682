from fedagg_edge.ledger.database import Database
from fedagg_edge.ledger.schema import APPLICATION_ID, MIGRATIONS


def test_all_tables_are_strict_and_the_file_says_what_it_is(tmp_path):
    db = Database(tmp_path / "x")
    tables = db.all("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'")
    assert len(tables) == 15
    assert all(strict for _, strict in tables)
    assert db.one("PRAGMA application_id")[0] == APPLICATION_ID
    assert db.one("PRAGMA user_version")[0] == len(MIGRATIONS)
    db.close()
