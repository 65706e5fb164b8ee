-- What a packet's sender wants to have happened before a claim is acknowledged, if he asked for anything: the server's
-- setting holds where it is stronger, and where this is NULL.
ALTER TABLE packets
    ADD COLUMN ack TEXT CONSTRAINT ack_is_known CHECK (ack IN ('memory', 'fsync', 'replica', 'ledger'));

-- While one of these can be claimed, its lane's persister does not wait for more before it commits.
CREATE INDEX packets_awaited ON packets (packet_id) WHERE ack = 'ledger' AND state IN ('funded', 'open');
