-- What moved in each of China's days, by kind of entry (engine/auditing/day_movements.py). It is counted after the fact, in
-- steps along the entries' numbers, so neither a claim nor a sending writes here.

-- asset '': the ledger's currency. fen: the same money moves repeatedly, so a day's sum may need more than 64 bits.
CREATE TABLE day_movements (
    day   DATE NOT NULL,
    asset TEXT COLLATE "C" NOT NULL,
    kind  TEXT NOT NULL,
    count BIGINT NOT NULL,
    fen   NUMERIC NOT NULL,
    PRIMARY KEY (day, asset, kind)
);

-- One row: entries up to this number are counted.
CREATE TABLE day_movements_counted (
    transfer_id BIGINT NOT NULL
);
INSERT INTO day_movements_counted VALUES (0);
