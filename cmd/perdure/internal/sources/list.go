package sources

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Limits of a list.
const (
	maxRows  = 100_000
	maxBytes = 64 << 20
	maxName  = 1024 // bytes
	maxURL   = 16 << 10
)

// The columns of a list, in their order if it has no header.
var columns = []string{"url", "name", "checksum"} //nolint:gochecknoglobals // a constant

// A list is the rows that were read from a file.
type list struct {
	field   string // for errors, such as --from-file urls.csv
	order   []int  // of the columns of the file, as indexes of columns
	parts   []part
	line    map[string]int // by name
	parents map[string]int // lines of names below a directory, by the directory
}

// ParseList returns the plan of a copy of the sources in a file, one in a line: CSV with the columns URL, name and checksum, of
// which the last two are optional, or lines with one URL each. Its errors are about --from-file, with the line, or about DST. No
// request is sent.
func ParseList(in io.Reader, file, destination string, o Options) (Plan, error) {
	to, local, err := endpoint.ParseInto(destination)
	if err != nil {
		return Plan{}, err
	}
	l := &list{field: "--from-file " + file, line: make(map[string]int), parents: make(map[string]int)}
	if err := l.read(in); err != nil {
		return Plan{}, err
	}
	for _, p := range l.parts {
		if err := p.check(p.rel, to, local, o); err != nil {
			return Plan{}, err
		}
	}
	m := &Many{text: file, parts: l.parts}
	if err := m.sort(func(string) error { return nil }); err != nil { // read has refused names that two lines have
		return Plan{}, err
	}
	place := destination
	if local {
		if place, err = filepath.Abs(destination); err != nil {
			return Plan{}, endpoint.Explain("write", destination, err)
		}
	}
	m.place = func() string {
		if local {
			return "file:" + place
		}
		return to.Where() // with the store's URL, when it is connected
	}
	return planned(m, to, local, destination), nil
}

// at returns the field of an error about a line.
func (l *list) at(line int, column string) string {
	return fmt.Sprintf("%s of line %d of %s", column, line, l.field)
}

// read reads all lines.
func (l *list) read(in io.Reader) error {
	limited := &io.LimitedReader{R: in, N: maxBytes + 1}
	rows := csv.NewReader(limited)
	rows.FieldsPerRecord, rows.TrimLeadingSpace, rows.Comment, rows.ReuseRecord = -1, true, '#', true
	for {
		row, err := rows.Read()
		syntax, malformed := errors.AsType[*csv.ParseError](err)
		switch {
		case limited.N <= 0 || len(l.parts) > maxRows:
			return fmt.Errorf("%s: %w", l.field, setting.Bad("the list", "too long", fmt.Sprintf("a text of at most %d lines and %d bytes", maxRows, maxBytes)))
		case errors.Is(err, io.EOF):
			return nil
		case malformed:
			return setting.Bad(fmt.Sprintf("line %d of %s", syntax.Line, l.field), syntax.Err.Error(), "CSV: URL, name, checksum; a URL with a comma or a quote in quotes")
		case err != nil:
			return endpoint.Explain("read", l.field, err)
		}
		line, _ := rows.FieldPos(0)
		if err := l.row(line, row); err != nil {
			return err
		}
	}
}

// row reads one line: the header, or a source.
func (l *list) row(line int, row []string) error {
	for i := range row {
		row[i] = strings.TrimSpace(strings.TrimPrefix(row[i], "\ufeff"))
	}
	switch {
	case len(row) == 1 && row[0] == "":
		return nil
	case l.order == nil && slices.ContainsFunc(row, func(name string) bool { return strings.EqualFold(name, columns[0]) }):
		return l.header(line, row)
	case l.order == nil:
		l.order = []int{0, 1, 2}
	}
	if len(row) > len(l.order) {
		return setting.Bad(fmt.Sprintf("line %d of %s", line, l.field), fmt.Sprint(len(row), " columns"), fmt.Sprintf("at most %d columns: %s; a URL with commas in quotes", len(l.order), strings.Join(columns, ", ")))
	}
	var fields [3]string
	for i, text := range row {
		fields[l.order[i]] = text
	}
	p, err := l.part(line, fields[0], fields[1], fields[2])
	if err != nil {
		return err
	}
	l.parts = append(l.parts, p)
	return l.place(line, p.rel)
}

// header reads the names of the columns.
func (l *list) header(line int, row []string) error {
	for _, name := range row {
		i := slices.Index(columns, strings.ToLower(name))
		if i < 0 || slices.Contains(l.order, i) {
			return setting.Bad(fmt.Sprintf("the header in line %d of %s", line, l.field), name, "url, name or checksum, each once")
		}
		l.order = append(l.order, i)
	}
	return nil
}

// part returns the source of a line.
func (l *list) part(line int, url, name, sum string) (p part, err error) {
	if len(url) > maxURL {
		return p, setting.Bad(l.at(line, "URL"), fmt.Sprint(len(url), " bytes"), fmt.Sprintf("at most %d bytes", maxURL))
	}
	if url == "-" {
		return p, setting.Bad(l.at(line, "URL"), url, "an address with a name")
	}
	if p.from, err = endpoint.ParseSource(l.at(line, "URL"), url); err != nil {
		return p, err
	}
	if sum != "" {
		if p.want, err = checksum.Parse(sum); err != nil {
			return p, setting.Bad(l.at(line, "checksum"), sum, checksum.Want)
		}
	}
	p.rel = name
	if name == "" {
		if p.rel = p.from.Base(); p.rel == "" {
			return p, setting.Bad(l.at(line, "URL"), p.from.String(), "an address with a name at its end, if the line has no name for the file")
		}
	}
	if !safe(p.rel) {
		return p, setting.Bad(l.at(line, "name"), p.rel, fmt.Sprintf("a path below DST of at most %d bytes, such as 2024/hour.csv, without .., backslashes and control characters", maxName))
	}
	return p, nil
}

// safe reports whether a name is a path below a directory.
func safe(name string) bool {
	return len(name) <= maxName && utf8.ValidString(name) && !strings.Contains(name, `\`) && !strings.ContainsFunc(name, unicode.IsControl) &&
		name != "." && path.Clean(name) == name && !path.IsAbs(name) && name != ".." && !strings.HasPrefix(name, "../")
}

// place returns an error if the name of a line is that of another line, or of a directory of one.
func (l *list) place(line int, name string) error {
	other, taken := l.line[name]
	if !taken {
		other, taken = l.parents[name]
	}
	for dir := path.Dir(name); dir != "." && !taken; dir = path.Dir(dir) {
		other, taken = l.line[dir]
		if _, known := l.parents[dir]; !known {
			l.parents[dir] = line
		}
	}
	if taken {
		return setting.Bad(l.at(line, "name"), name, fmt.Sprintf("a name that no other line has, also as a directory; see line %d", other))
	}
	l.line[name] = line
	return nil
}

// OpenList opens the file of a list; stdin is that of the name -.
func OpenList(file string, stdin *os.File) (io.ReadCloser, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, setting.Unreadable("--from-file", file, err)
		}
		return f, nil
	}
	if endpoint.WasClosed(stdin) {
		return nil, endpoint.Explain("read", "-", endpoint.ErrClosed)
	}
	return io.NopCloser(stdin), nil
}
