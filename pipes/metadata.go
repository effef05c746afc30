package pipes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Metadata is what a report says besides that something was made or checked:
// values by label. Nil and empty are the same.
type Metadata map[string]Value

// A Value is one value of [Metadata]. The functions that return one make only
// what Dagster can read; if that is not possible the report of which it is a
// part returns an error that names the label. The zero Value is [Null].
type Value struct {
	kind string
	raw  any
	err  error // why there is no value
}

// maxLong is the room for one text in a report, as it is encoded.
const maxLong = 24 << 10

// Text is a text. One that is very long is cut, and says so.
func Text(s string) Value { return Value{kind: "text", raw: clip(s, maxLong)} }

// Markdown is a text that the web page renders. One that is very long is cut.
func Markdown(s string) Value { return Value{kind: "md", raw: clip(s, maxLong)} }

// URL is an address. It loses user information and signatures.
func URL(u string) Value { return Value{kind: "url", raw: u} }

// Path is the path of a file.
func Path(p string) Value { return Value{kind: "path", raw: p} }

// Notebook is the path of a notebook.
func Notebook(p string) Value { return Value{kind: "notebook", raw: p} }

// Bool is true or false.
func Bool(b bool) Value { return Value{kind: "bool", raw: b} }

// Int is an integer.
func Int(n int64) Value { return Value{kind: "int", raw: n} }

// BigInt is an integer of any size up to 4000 digits; nil is [Null].
func BigInt(n *big.Int) Value {
	if n == nil {
		return Null()
	}
	return Value{kind: "int", raw: json.Number(n.String())}
}

// Float is a number. One that is not finite is sent as text: JSON has no word
// for it.
func Float(f float64) Value {
	if !finite(f) {
		return Value{kind: "text", raw: f}
	}
	return Value{kind: "float", raw: f}
}

// Seconds is a duration, as a number of seconds.
func Seconds(d time.Duration) Value { return Float(d.Seconds()) }

// Timestamp is an instant.
func Timestamp(t time.Time) Value {
	return Value{kind: "timestamp", raw: float64(t.Unix()) + float64(t.Nanosecond())/1e9}
}

// Null is no value.
func Null() Value { return Value{kind: "null"} }

// DagsterRun is a link to the run with that ID.
func DagsterRun(id string) Value { return Value{kind: "dagster_run", raw: id} }

// Asset is a link to an asset. The parts of its key are joined by "/".
func Asset(key string) Value { return Value{kind: "asset", raw: verbatim(key)} }

// JSON is what encoding/json makes of v, which must be an object or a list.
func JSON(v any) Value {
	text, err := appendValue(nil, v, 0)
	if err == nil && !slices.Contains(shapes("json"), shape(text)) {
		err = fmt.Errorf("%s is neither an object nor a list", clip(string(text), 100))
	}
	return Value{kind: "json", raw: encoded(text), err: err}
}

// Infer is a value whose kind follows from its Go type: a string, a number, a
// bool, nil, or a list of such. For an object use [JSON].
func Infer(v any) Value {
	switch v := v.(type) {
	case float32:
		return Infer(float64(v))
	case float64:
		if !finite(v) {
			return Float(v)
		}
	case string:
		return Value{kind: infer, raw: clip(v, maxLong)}
	}
	text, err := appendValue(nil, v, 0)
	if err == nil && shape(text) == "object" {
		err = fmt.Errorf("%T is an object: use pipes.JSON", v)
	}
	return Value{kind: infer, raw: encoded(text), err: err}
}

// Typed is a value of one of Dagster's kinds that was read from elsewhere, as
// {"type": kind, "raw_value": raw}. Raw must be what Dagster takes for the kind:
// it is not converted, except that a float gets its point.
func Typed(kind string, raw any) Value {
	text, err := appendValue(nil, raw, 0)
	if err != nil {
		return Value{kind: kind, err: err}
	}
	v, is := Value{kind: kind, raw: encoded(text)}, shape(text)
	switch want := shapes(kind); {
	case want == nil:
		v.err = fmt.Errorf("invalid value %q for type: must be one of text, md, url, path, notebook, dagster_run, asset, bool, int, float, timestamp, json, null and %s", kind, infer)
	case !slices.Contains(want, is):
		v.err = fmt.Errorf("%s is no value of type %s", clip(string(text), maxName), kind)
	case is == "integer" && kind != infer && slices.Contains(want, "float"):
		v.raw = encoded(append(text, ".0"...))
	}
	return v
}

// shapes returns what a raw value of that kind may be.
func shapes(kind string) []string {
	switch kind {
	case "text", "md", "url", "path", "notebook", "dagster_run", "asset":
		return []string{"string"}
	case "bool", "null":
		return []string{kind}
	case "int":
		return []string{"integer"}
	case "float", "timestamp":
		return []string{"integer", "float"}
	case "json":
		return []string{"object", "list"}
	case infer:
		return []string{"string", "bool", "null", "integer", "float", "list"}
	default:
		return nil
	}
}

// shape returns what the JSON of a value is.
func shape(text []byte) string {
	switch text[0] {
	case '"':
		return "string"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	case '{':
		return "object"
	case '[':
		return "list"
	}
	if bytes.ContainsAny(text, ".eE") {
		return "float"
	}
	return "integer"
}

const infer = "__infer__"

// A Column describes one column of a table.
type Column struct {
	Name        string
	Type        string // in the words of whatever holds the table; "" means "string"
	Description string
	Tags        map[string]string
	NotNull     bool
	Unique      bool
	Constraints []string // others, in words
}

func (c Column) object() object {
	o := object{{"name", c.Name}, {"type", c.Type}}
	if c.Type == "" {
		o[1].value = "string"
	}
	if c.Description != "" {
		o = append(o, field{"description", c.Description})
	}
	if len(c.Tags) > 0 {
		o = append(o, field{"tags", c.Tags})
	}
	if c.NotNull || c.Unique || len(c.Constraints) > 0 {
		others := append([]string{}, c.Constraints...)
		o = append(o, field{"constraints", object{{"nullable", !c.NotNull}, {"unique", c.Unique}, {"other", others}}})
	}
	return o
}

func columns(cs []Column) []any {
	list := make([]any, len(cs))
	for i, c := range cs {
		list[i] = c.object()
	}
	return list
}

// Table is a small table: its columns, and its records by column name. The
// values of a record are strings, numbers, bools or nil.
func Table(cs []Column, records []map[string]any) Value {
	v := Value{kind: "table"}
	rows := make([]any, len(records))
	for i, record := range records {
		row := map[string]any{}
		for name, cell := range record {
			text, err := appendValue(nil, cell, 0)
			if err == nil && (text[0] == '{' || text[0] == '[') {
				err = fmt.Errorf("record %d, column %q: %T is neither a string, a number, a bool nor nil", i, name, cell)
			}
			if err != nil {
				v.err = err
			}
			row[name] = encoded(text)
		}
		rows[i] = row
	}
	v.raw = object{{"records", rows}, {"schema", columns(cs)}}
	return v
}

// TableSchema is the columns of a table.
func TableSchema(cs ...Column) Value {
	return Value{kind: "table_schema", raw: object{{"columns", columns(cs)}}}
}

// A ColumnDep is a column from which another is made.
type ColumnDep struct {
	AssetKey string // its parts are joined by "/"
	Column   string
}

// ColumnLineage tells, for each column of an asset, from which others it is
// made.
func ColumnLineage(deps map[string][]ColumnDep) Value {
	by := map[string]any{}
	for column, from := range deps {
		list := make([]any, len(from))
		for i, dep := range from {
			list[i] = object{{"asset_key", parts(dep.AssetKey)}, {"column_name", dep.Column}}
		}
		by[column] = list
	}
	return Value{kind: "table_column_lineage", raw: object{{"deps_by_column", by}}}
}

// parts splits an asset key at each "/" that has no backslash before it.
func parts(key string) []any {
	list := []any{}
	for part := range strings.SplitSeq(strings.ReplaceAll(key, `\/`, "\x00"), "/") {
		list = append(list, verbatim(strings.ReplaceAll(part, "\x00", "/")))
	}
	return list
}

// object returns m as it is sent.
func (m Metadata) object() (any, error) {
	if len(m) == 0 {
		return nil, nil
	}
	fields := map[string]any{}
	for label, v := range m {
		if v.err != nil {
			return nil, fmt.Errorf("metadata %q: %w", clip(label, maxName), v.err)
		}
		if v.kind == "" {
			v = Null()
		}
		fields[label] = object{{"raw_value", v.raw}, {"type", verbatim(v.kind)}}
	}
	return fields, nil
}
