package guard

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A verdict on a stream is its whole messages, and whether the rest is refused.
type verdict struct {
	messages []string
	refused  bool
}

// scanned returns the scanner's verdict on data that arrives in pieces of that size.
func scanned(data []byte, piece int) (v verdict) {
	var s scanner
	for part := range slices.Chunk(data, piece) {
		for len(part) > 0 {
			n, ended, err := s.scan(part)
			if err != nil {
				v.refused = true
				return v
			}
			if part = part[n:]; ended {
				v.messages = append(v.messages, fmt.Sprintf("%q %d %d %q %v", s.message.typ, s.count, s.size, s.texts, s.lengths))
			}
		}
	}
	return v
}

// A naive parser has all data at once, and is recursive.
type naive struct {
	size  int
	texts [][]byte // of the message, and of its elements
}

// The results of parsing one value.
const (
	whole = iota
	more
	bad
)

// judged returns naive's verdict on data.
func judged(data []byte) (v verdict) {
	for len(data) > 0 {
		p := naive{}
		n, count, null, st := p.value(data, 0)
		if st != whole {
			v.refused = st == bad
			return v
		}
		typ := data[0]
		if null {
			typ = '_'
		}
		var texts [maxTexts][]byte
		var lengths [maxTexts]int
		for i, text := range p.texts[:min(len(p.texts), maxTexts)] {
			texts[i], lengths[i] = text[:min(len(text), maxText)], len(text)
		}
		v.messages = append(v.messages, fmt.Sprintf("%q %d %d %q %v", typ, count, p.size, texts, lengths))
		data = data[n:]
	}
	return v
}

// value reads one value, and returns its length and its elements.
func (p *naive) value(data []byte, depth int) (n, count int, null bool, st int) {
	if len(data) == 0 {
		return 0, 0, false, more
	}
	typ := data[0]
	if !strings.ContainsRune("+-:,(#_$!=*%~>", rune(typ)) || typ == '>' && depth > 0 {
		return 0, 0, false, bad
	}
	line, st := p.line(data[1:], typ)
	if st != whole {
		return 0, 0, false, st
	}
	n = 1 + len(line) + 2
	if p.size += len(line); p.size > maxSize {
		return 0, 0, false, bad
	}
	text := line
	switch typ {
	case '+', '-':
	case ':', '#':
		text = ""
		if _, err := strconv.ParseInt(line, 10, 64); typ == ':' && (err != nil || line[0] == '+') || typ == '#' && line != "t" && line != "f" {
			return 0, 0, false, bad
		}
	case ',':
		if _, err := strconv.ParseFloat(line, 64); err != nil && !strings.Contains(err.Error(), "range") {
			return 0, 0, false, bad
		}
	case '(':
		digits := strings.TrimPrefix(line, "-")
		if digits == "" || strings.Trim(digits, "0123456789") != "" {
			return 0, 0, false, bad
		}
	case '_':
		if line != "" {
			return 0, 0, false, bad
		}
	default:
		return p.sized(data, n, line, depth)
	}
	p.text(text, depth)
	return n, 0, false, whole
}

// sized is value for a type whose line is a length; it ends at n.
func (p *naive) sized(data []byte, n int, line string, depth int) (end, count int, null bool, st int) {
	typ := data[0]
	if line == "-1" && (typ == '$' || typ == '*') {
		p.text("", depth)
		return n, 0, true, whole
	}
	length, err := strconv.Atoi(line)
	if err != nil || strings.Trim(line, "0123456789") != "" || length > maxSize {
		return 0, 0, false, bad
	}
	if strings.ContainsRune("$!=", rune(typ)) {
		if p.size += length; p.size > maxSize {
			return 0, 0, false, bad
		}
		switch rest := data[n:]; {
		case len(rest) > length && rest[length] != '\r', len(rest) > length+1 && rest[length+1] != '\n':
			return 0, 0, false, bad
		case len(rest) < length+2:
			return 0, 0, false, more
		}
		p.text(string(data[n:n+length]), depth)
		return n + length + 2, 0, false, whole
	}
	if typ == '%' {
		length *= 2
	}
	if p.size += elementSize * length; p.size > maxSize || length > 0 && depth == maxDepth {
		return 0, 0, false, bad
	}
	if depth == 1 {
		p.text("", depth)
	}
	for range length {
		k, _, _, st := p.value(data[n:], depth+1)
		if st != whole {
			return 0, 0, false, st
		}
		n += k
	}
	return n, length, false, whole
}

// text records a text of the message, or of one of its elements.
func (p *naive) text(text string, depth int) {
	if depth < 2 {
		p.texts = append(p.texts, []byte(text))
	}
}

// line returns the text before CRLF.
func (p *naive) line(data []byte, typ byte) (line string, st int) {
	limit := maxShort
	if strings.ContainsRune("+-(,", rune(typ)) {
		limit = maxLine
	}
	before, _, found := bytes.Cut(data, []byte("\n"))
	body, cr := bytes.CutSuffix(before, []byte("\r"))
	switch {
	case len(body) > limit, bytes.ContainsRune(body, '\r'), found && !cr:
		return "", bad
	case !found:
		return "", more
	}
	return string(body), whole
}

// streams holds the seeds: what servers send, and what no server sends.
func streams() []string {
	return []string{
		"+OK\r\n", "-ERR no\r\n", ":-12\r\n", "$0\r\n\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "_\r\n", "#t\r\n", "#f\r\n",
		",1.5\r\n", ",inf\r\n", ",-inf\r\n", ",nan\r\n", "(3492890328409238509324850943850943825024385\r\n",
		"!5\r\nERR x\r\n", "=8\r\ntxt:text\r\n", "$5\r\nab\r\nc\r\n",
		"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n", "~2\r\n+a\r\n+b\r\n",
		">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n", ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
		"*3\r\n*1\r\n*0\r\n%1\r\n+k\r\n~1\r\n_\r\n$1\r\nx\r\n+OK\r\n", "*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n+x\r\n",
		strings.Repeat("*1\r\n", 8) + ":1\r\n", strings.Repeat("*1\r\n", 9), strings.Repeat("*1\r\n", 8) + "*0\r\n",
		"$16777216\r\n", "$16777215\r\n", "*262144\r\n", "*262143\r\n", "%131071\r\n", "*9223372036854775808\r\n", "%4611686018427387905\r\n",
		"$-5\r\n*-7\r\n", "%-1\r\n", "~-1\r\n", ">-1\r\n", "=-1\r\n", "$?\r\n", "*?\r\n", ";1\r\na\r\n", ".\r\n", "|1\r\n+a\r\n+b\r\n+OK\r\n",
		"+a\nb\r\n", "+a\rb\r\n", "\n", "\r\n", "+\n", "+\r", "+\r\r\n", "$3\r\nabcd\r\n", "$3\r\nabc\r\r", ":\r\n", ":+1\r\n", ":9223372036854775808\r\n",
		"*1\r\n>1\r\n+x\r\n", "#x\r\n", "_x\r\n", "(\r\n", "(-\r\n", ",\r\n", "$+1\r\na\r\n", "$01\r\na\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"+" + strings.Repeat("a", maxLine) + "\r\n", "+" + strings.Repeat("a", maxLine+1), ":" + strings.Repeat("0", maxShort) + "\r\n",
		":" + strings.Repeat("0", maxShort+1), "$600\r\n" + strings.Repeat("b", 600) + "\r\n",
	}
}

// However a stream is cut, the scanner's verdict is that of a parser with all data at
// once.
func TestScannerAgreesWithTheNaiveParser(t *testing.T) {
	all := streams()
	for _, a := range all {
		for _, b := range append([]string{""}, all...) {
			if len(a)+len(b) > 1000 && b != "" {
				continue
			}
			data := []byte(a + b)
			want := judged(data)
			for piece := 1; piece <= len(data); piece = piece*2 + 1 {
				if got := scanned(data, piece); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("%.200q in pieces of %d: %.300v, want %.300v", data, piece, got, want)
				}
			}
		}
		for at := range min(len(a), 200) { // and what of it has come
			if got, want := scanned([]byte(a[:at+1]), at+1), judged([]byte(a[:at+1])); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%q: %v, want %v", a[:at+1], got, want)
			}
		}
	}
}

func FuzzScanner(f *testing.F) {
	for i, s := range streams() {
		f.Add([]byte(s), uint16(i))
	}
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		want := judged(data)
		for _, n := range []int{1, int(piece) + 1} {
			if got := scanned(data, n); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%.200q in pieces of %d: %v, want %v", data, n, got, want)
			}
		}
	})
}

// The cost of the guard for a request and the reply of a script, some 300 bytes.
func BenchmarkGuard(b *testing.B) {
	text := strings.Repeat("v", 300)
	reply := []byte("$300\r\n" + text + "\r\n")
	request := []byte("*8\r\n$7\r\nEVALSHA\r\n" + strings.Repeat("$40\r\n"+text[:40]+"\r\n", 7))
	c := conn{}
	b.ReportAllocs()
	for b.Loop() {
		for rest := request; len(rest) > 0; {
			n, ended, _ := c.requests.scan(rest)
			if rest = rest[n:]; ended {
				c.exchange.request(&c.requests.message)
			}
		}
		if err := c.check(reply); err != nil {
			b.Fatal(err)
		}
	}
}
