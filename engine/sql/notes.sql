-- What operators write down about users and packets (engine/backoffice/notes.py).

-- add --
INSERT INTO notes (subject_kind, subject, written_at_ms, written_by, note)
SELECT $1, $2, floor(extract(epoch FROM clock_timestamp()) * 1000), $3, $4
RETURNING note_id

-- of_subject --
SELECT note_id, written_at_ms, written_by, note FROM notes
WHERE subject_kind = $1 AND subject = $2 AND note_id < $3 ORDER BY note_id DESC LIMIT $4
