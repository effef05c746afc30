package yamlfile

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// How large a file may be. The parser's time and memory grow with the square of how
// many tokens there are, and of how deep they are nested, or faster: what is beyond
// these limits never reaches it.
const (
	longest = 1 << 20 // in bytes
	marks   = 1 << 16 // what may become a token, comments among it
	most    = 10_000  // in tokens, without comments
	deepest = 64      // in mappings, sequences, anchors and tags
)

// tokens returns the tokens of the file, without comments.
func (f *File) tokens() (token.Tokens, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	var kept token.Tokens
	var d depth
	for _, t := range lexer.Tokenize(string(f.data)) {
		if t.Type == token.CommentType {
			continue
		}
		if kept.Add(t); len(kept) > most {
			return nil, fmt.Errorf("%s: too many values: want at most %d names, values and signs", f.Place(t), most)
		}
		if d.add(t) > deepest {
			return nil, fmt.Errorf("%s: nested too deep: want at most %d levels", f.Place(t), deepest)
		}
	}
	return kept, nil
}

// check refuses what is no text, and more of it than there may be.
func (f *File) check() error {
	n := 0
	for i, line := range bytes.Split(f.data, []byte("\n")) {
		at := bytes.IndexFunc(line, func(r rune) bool {
			return r < ' ' && r != '\t' && r != '\r' || 0x7f <= r && r < 0xa0 && r != 0x85 || r == utf8.RuneError
		})
		if at >= 0 {
			return fmt.Errorf("%s:%d:%d: not a text: want UTF-8 without control characters", f.path, i+1, utf8.RuneCount(line[:at])+1)
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
			return fmt.Errorf("%s:%d: too much in it: want names and values", f.path, i+1)
		}
	}
	return nil
}

// A depth is how deep tokens are nested, at least: the columns where what is still
// open began, and 0 for each bracket.
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
	case token.CollectEntryType: // a comma ends what is not in brackets of its own
		d.end(1)
	case token.SequenceEndType, token.MappingEndType:
		d.end(1)
		d.open = d.open[:max(len(d.open)-1, 0)]
	case token.MappingValueType:
		if d.last != nil {
			at = d.last.Position.Column // its name
		}
		d.begin(at)
	case token.SequenceStartType, token.MappingStartType:
		d.open = append(d.open, 0)
	case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType, token.AliasType:
		d.begin(at)
	default:
	}
	d.last = t
	return len(d.open)
}

// begin ends what began at that column or after it, and opens what begins there.
func (d *depth) begin(column int) {
	d.end(column)
	d.open = append(d.open, column)
}

// end ends what began at that column or after it, up to the last bracket.
func (d *depth) end(column int) {
	for n := len(d.open); n > 0 && d.open[n-1] >= column; n = len(d.open) {
		d.open = d.open[:n-1]
	}
}
