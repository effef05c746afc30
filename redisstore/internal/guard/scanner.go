package guard

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The limits of one message.
const (
	maxSize  = 16 << 20 // bytes, with [elementSize] for each element
	maxDepth = 8        // arrays within arrays
	maxLine  = 64 << 10 // bytes of a line without its end
	maxShort = 32       // bytes of a line with a number or a length
	maxText  = 512      // bytes that a [message] keeps of a text
	maxTexts = 3        // texts that a message keeps

	// elementSize is the most that the client allocates for an element.
	elementSize = 64
)

// A message describes a message after its last byte.
type message struct {
	typ   byte // of RESP: '+', '-', '*', ...; '_' for each kind of null
	count int  // elements of an array, set, map (keys and values) or push
	size  int  // bytes, with elementSize for each element

	// texts holds the beginning of the message's text, or of the texts of its first
	// elements; "" for an element without text. lengths holds their whole lengths.
	texts   [maxTexts][]byte
	lengths [maxTexts]int
}

// text returns the beginning of the message's text, or of its first element's.
func (m *message) text() string { return string(m.texts[0]) }

// state is what the next byte belongs to.
type state uint8

const (
	atType state = iota
	inLine
	inBlob
	atCR // after a blob
	atLF
)

// A scanner parses RESP2 and RESP3 byte by byte, and keeps only a [message] of each
// message. It accepts what Redis and Valkey send: a subset of what the client's parser
// accepts, with the same message boundaries. The zero scanner is at the beginning of a
// message.
type scanner struct {
	message

	state state
	typ   byte          // of the element that is being read
	line  []byte        // line of the element, without its end
	left  int           // bytes of the blob that are missing
	depth int           // number of arrays that contain the element
	open  [maxDepth]int // number of elements missing in each of these arrays
	slot  int           // index in texts of the element's text; maxTexts if it is not kept
}

// scan reads data up to the end of a message. It returns the number of bytes read, and
// whether the message has ended.
func (s *scanner) scan(data []byte) (n int, ended bool, err error) {
	for n < len(data) && !ended && err == nil {
		switch s.state {
		case atType:
			err = s.begin(data[n])
			n++
		case inLine:
			var k int
			k, ended, err = s.readLine(data[n:])
			n += k
		case inBlob:
			k := min(s.left, len(data)-n)
			s.keep(data[n : n+k])
			n += k
			if s.left -= k; s.left == 0 {
				s.state = atCR
			}
		case atCR, atLF:
			ended, err = s.endBlob(data[n])
			n++
		}
	}
	return n, ended, err
}

// begin reads the type of an element.
func (s *scanner) begin(typ byte) error {
	if strings.IndexByte("+-:,(#_$!=*%~>", typ) < 0 {
		return fmt.Errorf("unknown type %q", typ)
	}
	if s.depth == 0 {
		for i := range s.texts {
			s.texts[i], s.lengths[i] = s.texts[i][:0], 0
		}
		s.message.typ, s.count, s.size, s.slot = typ, 0, 0, 0
	} else if typ == '>' {
		return errors.New("push within a message")
	}
	s.typ, s.line, s.state = typ, s.line[:0], inLine
	return nil
}

// charge adds n to the size of the message, before anything is allocated for it.
func (s *scanner) charge(n int) error {
	if s.size += n; s.size > maxSize {
		return fmt.Errorf("message of more than %d bytes", maxSize)
	}
	return nil
}

// readLine reads data up to the end of a line.
func (s *scanner) readLine(data []byte) (n int, ended bool, err error) {
	end := bytes.IndexByte(data, '\n')
	part, limit := data, maxShort
	n = len(data)
	if end >= 0 {
		part, n = data[:end], end+1
	}
	if strings.IndexByte("+-(,", s.typ) >= 0 {
		limit = maxLine
	}
	if len(s.line)+len(part) > limit+1 { // with its CR
		return n, false, fmt.Errorf("line of more than %d bytes", limit)
	}
	s.line = append(s.line, part...)
	cr := bytes.IndexByte(s.line, '\r')
	switch last := len(s.line) - 1; {
	case cr >= 0 && cr < last, end >= 0 && cr < 0:
		return n, false, errors.New("line that does not end with CRLF")
	case end < 0:
		if cr < 0 && len(s.line) > limit {
			err = fmt.Errorf("line of more than %d bytes", limit)
		}
		return n, false, err
	}
	s.line = s.line[:cr]
	if err := s.charge(len(s.line)); err != nil {
		return n, false, err
	}
	ended, err = s.endLine()
	return n, ended, err
}

// endLine handles a whole line by the type of its element.
func (s *scanner) endLine() (ended bool, err error) {
	switch s.typ {
	case '$', '!', '=':
		return s.beginBlob()
	case '*', '%', '~', '>':
		return s.beginArray()
	case ':', '(':
		if !isNumber(s.line, s.typ == '(') {
			return false, fmt.Errorf("invalid number %.40q", s.line)
		}
	case ',':
		if _, err := strconv.ParseFloat(string(s.line), 64); err != nil && !errors.Is(err, strconv.ErrRange) {
			return false, fmt.Errorf("invalid number %.40q", s.line)
		}
	case '#':
		if string(s.line) != "t" && string(s.line) != "f" {
			return false, fmt.Errorf("invalid boolean %.40q", s.line)
		}
	case '_':
		if len(s.line) > 0 {
			return false, fmt.Errorf("invalid null %.40q", s.line)
		}
	}
	if s.typ != ':' && s.typ != '#' { // the client keeps no text of these
		s.keep(s.line)
	}
	return s.end(), nil
}

// isNumber reports whether line is an integer, of at most 64 bits unless big.
func isNumber(line []byte, big bool) bool {
	if !big {
		_, err := strconv.ParseInt(string(line), 10, 64)
		return err == nil && line[0] != '+'
	}
	digits := bytes.TrimPrefix(line, []byte("-"))
	return len(digits) > 0 && len(bytes.Trim(digits, "0123456789")) == 0
}

// length returns the length in the line, -1 for null.
func (s *scanner) length() (int, error) {
	n, err := strconv.ParseUint(string(s.line), 10, 63)
	switch {
	case string(s.line) == "-1" && (s.typ == '$' || s.typ == '*'):
		return -1, nil
	case err == nil && n > maxSize, errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("length %.40s is more than %d", s.line, maxSize)
	case err != nil:
		return 0, fmt.Errorf("invalid length %.40q", s.line)
	}
	return int(n), nil
}

// beginBlob begins a text with an announced length.
func (s *scanner) beginBlob() (ended bool, err error) {
	n, err := s.length()
	if err != nil {
		return false, err
	}
	if n < 0 {
		return s.endNull(), nil
	}
	if s.left, s.state = n, inBlob; n == 0 {
		s.state = atCR
	}
	return false, s.charge(n)
}

// beginArray begins an array, set, map or push.
func (s *scanner) beginArray() (ended bool, err error) {
	n, err := s.length()
	if err != nil {
		return false, err
	}
	if n < 0 {
		return s.endNull(), nil
	}
	if s.typ == '%' {
		n *= 2
	}
	if s.depth == 0 {
		s.count = n
	}
	if n == 0 {
		return s.end(), nil
	}
	if err := s.charge(n * elementSize); err != nil {
		return false, err
	}
	if s.depth == maxDepth {
		return false, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	s.open[s.depth], s.state = n, atType
	s.depth++
	return false, nil
}

// endBlob reads a byte of the CRLF after a blob.
func (s *scanner) endBlob(b byte) (ended bool, err error) {
	switch {
	case s.state == atCR && b == '\r':
		s.state = atLF
		return false, nil
	case s.state == atLF && b == '\n':
		return s.end(), nil
	}
	return false, errors.New("text that does not end with CRLF")
}

// endNull ends an element that is a RESP2 null.
func (s *scanner) endNull() bool {
	if s.depth == 0 {
		s.message.typ = '_'
	}
	return s.end()
}

// end ends an element, and each array whose last element it is. It reports whether the
// message has ended.
func (s *scanner) end() bool {
	s.state = atType
	if s.depth == 1 && s.slot < maxTexts {
		s.slot++
	}
	for s.depth > 0 {
		if s.open[s.depth-1]--; s.open[s.depth-1] > 0 {
			return false
		}
		if s.depth--; s.depth == 1 && s.slot < maxTexts {
			s.slot++
		}
	}
	return true
}

// keep appends to the beginning of the element's text, up to its limit.
func (s *scanner) keep(text []byte) {
	if s.depth > 1 || s.slot == maxTexts {
		return
	}
	kept := &s.texts[s.slot]
	s.lengths[s.slot] += len(text)
	*kept = append(*kept, text[:min(len(text), maxText-len(*kept))]...)
}
