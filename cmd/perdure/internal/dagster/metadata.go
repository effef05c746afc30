package dagster

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/pipes"
)

// metadata is the metadata of a report.
func (f *fields) metadata() pipes.Metadata {
	m, v := pipes.Metadata{}, f.value("metadata")
	if v == nil {
		return m
	}
	for label, v := range f.within("metadata", v).values {
		in := f.within(fmt.Sprintf("metadata %.80q", label), v)
		m[label] = in.metadatum(in.text("type"), in.value("raw_value"))
		in.end()
	}
	return m
}

// metadatum returns a value as package pipes makes it: a long text is cut, a
// table is taken apart, what is no number is a text.
func (f *fields) metadatum(kind string, raw any) pipes.Value {
	switch raw := raw.(type) {
	case string:
		switch {
		case kind == "text", kind == "float" && isNoNumber(raw):
			return pipes.Text(raw)
		case kind == "md":
			return pipes.Markdown(raw)
		case kind == "__infer__":
			return pipes.Infer(raw)
		}
	case map[string]any:
		in := f.within("raw_value", raw)
		switch kind {
		case "table":
			return pipes.Table(in.columns("schema"), in.records())
		case "table_schema":
			return pipes.TableSchema(in.columns("columns")...)
		case "table_column_lineage":
			return pipes.ColumnLineage(in.lineage())
		case "__infer__":
			return pipes.JSON(raw)
		}
	}
	return pipes.Typed(kind, raw)
}

func (f *fields) columns(name string) []pipes.Column {
	list := f.list(name)
	columns := make([]pipes.Column, len(list))
	for i, v := range list {
		columns[i] = f.within(fmt.Sprintf("%s %d", name, i), v).column()
	}
	return columns
}

func (f *fields) column() pipes.Column {
	c := pipes.Column{Name: f.text("name"), Type: f.text("type"), Description: f.may("description")}
	if v, _ := f.optional("tags"); v != nil {
		tags := f.within("tags", v)
		c.Tags = map[string]string{}
		for name := range tags.values {
			c.Tags[name] = tags.text(name)
		}
	}
	if v, _ := f.optional("constraints"); v != nil {
		in := f.within("constraints", v)
		c.NotNull, c.Unique = !in.flag("nullable", true), in.flag("unique", false)
		if _, ok := in.values["other"]; ok {
			c.Constraints = in.texts("other")
		}
		in.end()
	}
	return c
}

func (f *fields) records() []map[string]any {
	list := f.list("records")
	records := make([]map[string]any, len(list))
	for i, v := range list {
		records[i] = f.within(fmt.Sprintf("record %d", i), v).values
	}
	return records
}

func (f *fields) lineage() map[string][]pipes.ColumnDep {
	deps := map[string][]pipes.ColumnDep{}
	by := f.within("deps_by_column", f.value("deps_by_column"))
	for column := range by.values {
		for i, v := range by.list(column) {
			in := by.within(fmt.Sprintf("%s %d", column, i), v)
			deps[column] = append(deps[column], pipes.ColumnDep{AssetKey: in.key(), Column: in.text("column_name")})
			in.end()
		}
	}
	return deps
}

// key is the key of an asset: a string is all of it, a list its parts.
func (f *fields) key() string {
	parts := []string{}
	if s, ok := f.values["asset_key"].(string); ok {
		delete(f.values, "asset_key")
		parts = append(parts, s)
	} else {
		parts = f.texts("asset_key")
	}
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(part, "/", `\/`)
	}
	return strings.Join(parts, "/")
}

// isNoNumber reports whether text is one of Python's floats that JSON has no
// word for.
func isNoNumber(text string) bool {
	return text == "NaN" || strings.TrimPrefix(text, "-") == "Infinity"
}

// quoted returns a line in which those words are strings.
func quoted(line []byte) []byte {
	tokens := regexp.MustCompile(`"(\\.|[^"\\])*"|NaN|-?Infinity`)
	return tokens.ReplaceAllFunc(line, func(token []byte) []byte {
		if token[0] == '"' {
			return token
		}
		return []byte(strconv.Quote(string(token)))
	})
}
