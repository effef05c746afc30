package pipes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/pipesjson"
)

// Metadata are the values of a report, by label. Nil and empty are the same.
type Metadata map[string]Value

// A Value is one value of [Metadata]. The zero Value is [Null]. The functions that
// return a Value accept only what Dagster can read: for anything else the report
// that the value is a part of returns an error that names the label.
type Value struct {
	kind string // the name of a pipesjson.Kind; "" means null
	raw  any
	err  error // why the value can't be sent; nil if it can
}

// maxLong is the limit of one text in a report, in bytes as it is encoded.
const maxLong = 24 << 10

// Text returns a text. A text of more than 24 KiB in JSON is cut, and ends with a mark
// that says so.
func Text(s string) Value { return Value{kind: "text", raw: clip(s, maxLong)} }

// Markdown returns a text that Dagster's web page renders. A text of more than 24 KiB in
// JSON is cut.
func Markdown(s string) Value { return Value{kind: "md", raw: clip(s, maxLong)} }

// URL returns an address, without its user information and signatures.
func URL(u string) Value { return Value{kind: "url", raw: u} }

// Path returns the path of a file.
func Path(p string) Value { return Value{kind: "path", raw: p} }

// Notebook returns the path of a notebook.
func Notebook(p string) Value { return Value{kind: "notebook", raw: p} }

// Bool returns true or false.
func Bool(b bool) Value { return Value{kind: "bool", raw: b} }

// Int returns an integer. For a [big.Int], of up to 4000 digits, use [Infer].
func Int(n int64) Value { return Value{kind: "int", raw: n} }

// Float returns a number. A number that is not finite is sent as text, because
// JSON has no number for it.
func Float(f float64) Value {
	if !finite(f) {
		return Value{kind: "text", raw: f}
	}
	return Value{kind: "float", raw: f}
}

// Seconds returns a duration, as a number of seconds.
func Seconds(d time.Duration) Value { return Float(d.Seconds()) }

// Timestamp returns an instant.
func Timestamp(t time.Time) Value {
	return Value{kind: "timestamp", raw: float64(t.Unix()) + float64(t.Nanosecond())/1e9}
}

// Null returns Dagster's null metadata value.
func Null() Value { return Value{kind: "null"} }

// DagsterRun returns a link to the run with that ID.
func DagsterRun(id string) Value { return Value{kind: "dagster_run", raw: id} }

// Asset returns a link to an asset. The parts of its key are joined by "/".
func Asset(key string) Value { return Value{kind: "asset", raw: verbatim(key)} }

// JSON returns an object or a list, as encoding/json encodes v.
func JSON(v any) Value { return Typed("json", v) }

// Infer returns a value whose kind follows from its Go type: a string, a number,
// a bool, nil, or a list of these. For an object use [JSON].
func Infer(v any) Value {
	switch n := v.(type) {
	case float32:
		v = float64(n)
	case float64:
		if !finite(n) {
			return Float(n)
		}
	}
	value := Typed(pipesjson.Infer, v)
	if value.kind == "json" {
		value.err = fmt.Errorf("%T is an object: use pipes.JSON", v)
	}
	return value
}

// Typed returns the value {"type": kind, "raw_value": raw}, as another program wrote
// it. Kind is the name of a Dagster kind, such as "md" or "table_schema"; the error of
// an unknown name lists the names. Raw must be a raw value of that kind. A raw value
// that Dagster would refuse but whose meaning is clear is repaired: a float gets its
// point, "NaN" becomes text, and a text of more than 24 KiB is cut.
func Typed(kind string, raw any) Value {
	text, err := appendValue(nil, raw, 0)
	if err != nil {
		return Value{kind: kind, err: err}
	}
	if len(text) > maxLine && text[0] != '"' {
		return Value{kind: kind, raw: encoded(text)} // the report refuses it for its length
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var decoded any
	if err := d.Decode(&decoded); err != nil {
		return Value{kind: kind, err: err}
	}
	k, normal, err := pipesjson.Read(kind, decoded)
	if err != nil {
		return Value{kind: kind, err: err}
	}
	if s, ok := normal.(string); ok && k.Long {
		normal = clip(s, maxLong)
	}
	text, err = appendValue(nil, normal, 0)
	return Value{kind: k.Name, raw: encoded(text), err: err}
}

// A Column describes one column of a table.
type Column struct {
	Name        string
	Type        string // as the database names the type; "" means "string"
	Description string
	Tags        map[string]string
	NotNull     bool
	Unique      bool
	Constraints []string // further constraints, in words
}

func columns(cs []Column) []any {
	list := make([]any, len(cs))
	for i, c := range cs {
		list[i] = map[string]any{
			"name": c.Name, "type": c.Type, "description": c.Description, "tags": c.Tags,
			"constraints": map[string]any{"nullable": !c.NotNull, "unique": c.Unique, "other": c.Constraints},
		}
	}
	return list
}

// Table returns a table of columns and records by column name. The values of a record are
// strings, numbers, bools or nil. A report has at most 60 KiB with all of its values.
func Table(cs []Column, records []map[string]any) Value {
	rows := make([]any, len(records))
	for i, record := range records {
		row := map[string]any{} // also for a nil record
		maps.Copy(row, record)
		rows[i] = row
	}
	return Typed("table", map[string]any{"records": rows, "schema": columns(cs)})
}

// TableSchema returns the columns of a table.
func TableSchema(cs ...Column) Value {
	return Typed("table_schema", map[string]any{"columns": columns(cs)})
}

// A ColumnDep is a column that another column is computed from.
type ColumnDep struct {
	AssetKey string // the parts of the key are joined by "/"
	Column   string
}

// ColumnLineage returns, for each column of an asset, the columns that it is
// computed from.
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

// object returns m as it is sent, nil if m is empty.
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
