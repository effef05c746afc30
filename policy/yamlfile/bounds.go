package yamlfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// Limits of a file. The time and memory of the parser grow at least with the square of the
// number of tokens and of their depth. It does not get a file beyond these limits.
const (
	longest = 1 << 20 // in bytes
	marks   = 1 << 16 // characters that may begin a token, also in comments
	most    = 10_000  // tokens, without comments
	deepest = 64      // nested mappings and sequences
)

// tokens returns the tokens of the file, without comments.
func (f *File) tokens() (token.Tokens, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	var kept token.Tokens
	var d depth
	for _, t := range lexer.Tokenize(string(f.data)) {
		switch t.Type {
		case token.CommentType:
			continue
		case token.AnchorType, token.AliasType, token.TagType:
			return nil, f.Fail(t, "anchors, aliases and tags are not allowed: write the value itself")
		default:
		}
		if kept.Add(t); len(kept) > most {
			return nil, fmt.Errorf("%s: too many values: must be at most %d names, values and signs", f.Place(t), most)
		}
		if d.add(t) > deepest {
			return nil, fmt.Errorf("%s: nested too deep: must be at most %d levels", f.Place(t), deepest)
		}
	}
	return kept, nil
}

// check returns an error if the file is not text, or has too many marks.
func (f *File) check() error {
	n := 0
	for i, line := range bytes.Split(f.data, []byte("\n")) {
		at := bytes.IndexFunc(line, func(r rune) bool {
			return r < ' ' && r != '\t' && r != '\r' || 0x7f <= r && r < 0xa0 && r != 0x85 || r == utf8.RuneError
		})
		if at >= 0 {
			return fmt.Errorf("%s:%d:%d: not a text: must be UTF-8 without control characters", f.path, i+1, utf8.RuneCount(line[:at])+1)
		}
		n++
		if text := bytes.TrimSpace(line); !bytes.HasPrefix(text, []byte("#")) {
			n += bytes.Count(text, []byte(" "))
			for _, mark := range text {
				if strings.IndexByte("[]{},:-?&*!|>'\"%@`", mark) >= 0 {
					n++
				}
			}
		}
		if n > marks {
			return fmt.Errorf("%s:%d: too many values: must be names and values", f.path, i+1)
		}
	}
	return nil
}

// A depth is a lower bound of the depth of tokens: the first columns of all open mappings
// and sequences, and 0 for each open bracket.
type depth struct {
	open []int
	last *token.Token
}

// add returns the depth at t.
func (d *depth) add(t *token.Token) int {
	at := t.Position.Column
	switch t.Type {
	case token.DocumentHeaderType, token.DocumentEndType:
		d.open = nil
	case token.CollectEntryType: // a comma ends all that began inside the bracket
		d.end(1)
	case token.SequenceEndType, token.MappingEndType:
		d.end(1)
		d.open = d.open[:max(len(d.open)-1, 0)]
	case token.MappingValueType:
		if d.last != nil {
			at = d.last.Position.Column // of its name
		}
		d.begin(at)
	case token.SequenceStartType, token.MappingStartType:
		d.open = append(d.open, 0)
	case token.SequenceEntryType, token.MappingKeyType:
		d.begin(at)
	default:
	}
	d.last = t
	return len(d.open)
}

// begin ends what began at column or after it, and opens a level at column.
func (d *depth) begin(column int) {
	d.end(column)
	d.open = append(d.open, column)
}

// end ends what began at column or after it, up to the last bracket.
func (d *depth) end(column int) {
	for n := len(d.open); n > 0 && d.open[n-1] >= column; n = len(d.open) {
		d.open = d.open[:n-1]
	}
}
