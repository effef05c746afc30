// Package record encodes records of files that outlive a process: each is a line of JSON, followed by the CRC-32C of
// the JSON. An altered or truncated line does not decode.
package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
)

// sumSize is the size of the end of a line: a space, eight hexadecimal digits and a newline.
const sumSize = 10

// checksum returns the CRC-32C of text. A variable for the table would be filled whenever a program starts.
func checksum(text []byte) uint32 { return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) }

// Encode returns the line of v. The error is that of [json.Marshal].
func Encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(text, " %08x\n", checksum(text)), nil
}

// Decode decodes a line, with its newline, into v, and reports whether the line is complete, unaltered and of v's
// type. If not, the content of v is undefined.
func Decode(line []byte, v any) bool {
	text := line[:max(len(line)-sumSize, 0)]
	sum := fmt.Appendf(nil, " %08x\n", checksum(text))
	return bytes.Equal(line[len(text):], sum) && json.Unmarshal(text, v) == nil
}
