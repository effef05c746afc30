// Package record encodes records of files that outlive a process: each is a line of JSON, followed by the CRC-32C of
// the JSON. An altered or truncated line does not decode.
package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"sync"
)

// sumSize is the size of the end of a line: a space, eight hexadecimal digits and a newline.
const sumSize = 10

// Sum returns the CRC-32C of text. A variable for the table would be filled whenever a program starts.
func Sum(text []byte) uint32 { return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) }

// Encode returns the line of v. The error is that of [json.Marshal].
func Encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(text, " %08x\n", Sum(text)), nil
}

// Decode decodes a line, with its newline, into v, and reports whether the line is complete, unaltered and of v's
// type. If not, the content of v is undefined.
func Decode(line []byte, v any) bool {
	text := line[:max(len(line)-sumSize, 0)]
	sum := fmt.Appendf(nil, " %08x\n", Sum(text))
	return bytes.Equal(line[len(text):], sum) && json.Unmarshal(text, v) == nil
}

// Rewrite replaces the content of a file by one record.
func Rewrite(f *os.File, v any) error { return NewLog(f, math.MaxInt64).Begin(v) }

// A Log is a file of records, of one process at a time. Append is safe for concurrent use.
type Log struct {
	*os.File

	limit int64
	mu    sync.Mutex
	size  int64 // of the records in bytes; guarded by mu
}

// NewLog returns the Log in f, which counts as empty before Load. It gets at most limit bytes.
func NewLog(f *os.File, limit int64) *Log { return &Log{File: f, limit: limit} }

// Load reads the file, up to one byte more than its limit. The next record follows the last complete line: a truncated
// one, which a killed process was writing, is overwritten.
func (l *Log) Load() (text []byte, err error) {
	text, err = io.ReadAll(io.NewSectionReader(l, 0, l.limit+1))
	l.size = int64(bytes.LastIndexByte(text, '\n') + 1)
	return text, err
}

// Clear discards all records.
func (l *Log) Clear() error {
	l.size = 0
	return l.Truncate(0)
}

// Begin discards all records, and appends the first one.
func (l *Log) Begin(v any) error {
	if err := l.Clear(); err != nil {
		return err
	}
	return l.Append(v)
}

// Append appends a record, unless the file would exceed its limit.
func (l *Log) Append(v any) error {
	line, err := Encode(v)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(line)) > l.limit {
		return nil
	}
	n, err := l.WriteAt(line, l.size)
	l.size += int64(n)
	return err
}
