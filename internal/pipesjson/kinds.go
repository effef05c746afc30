package pipesjson

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Infer is the kind whose values say by their JSON type what they are.
const Infer = "__infer__"

// A Kind is a kind of metadata: the values that Dagster takes as
// {"type": Name, "raw_value": raw}.
type Kind struct {
	Name    string
	Types   []string // JSON types of a raw value, see [TypeOf]
	Long    bool     // a long string is cut; if false, it is an error
	Example string   // a raw value in JSON, in its normal form

	// read returns raw in its normal form. If nil, every raw value of Types is.
	read func(f *Fields, raw any) any
	// instead returns the kind that takes a raw value which this one does not;
	// "" if no other kind does. If nil, no raw value has another kind.
	instead func(raw any) string
}

// Kinds returns the table of the kinds. A new kind is a row here and a constructor
// in package pipes; encoder, relay, test reader and contract follow.
func Kinds() []Kind {
	text, number := []string{"string"}, []string{"float", "integer"}
	return []Kind{
		{Name: "text", Types: text, Long: true, Example: `"a text"`},
		{Name: "md", Types: text, Long: true, Example: `"# a heading"`},
		{Name: "url", Types: text, Example: `"https://example.com/"`},
		{Name: "path", Types: text, Example: `"/a/path"`},
		{Name: "notebook", Types: text, Example: `"a.ipynb"`},
		{Name: "dagster_run", Types: text, Example: `"00000000-0000-0000-0000-000000000000"`},
		{Name: "asset", Types: text, Example: `"an/asset"`},
		{Name: "bool", Types: []string{"bool"}, Example: "true"},
		{Name: "int", Types: []string{"integer"}, Example: "1180591620717411303424"},
		{Name: "float", Types: number, Example: "100.0", read: withPoint, instead: textOfNaN},
		{Name: "timestamp", Types: number, Example: "1700000000.5", read: withPoint},
		{Name: "json", Types: []string{"object", "list"}, Example: `{"a": [1, null]}`},
		{Name: "null", Types: []string{"null"}, Example: "null"},
		{Name: "table", Types: []string{"object"}, Example: `{"records": [{"a": 1}], "schema": [{"name": "a", "type": "int"}]}`, read: table},
		{Name: "table_schema", Types: []string{"object"}, Example: `{"columns": [{"name": "a", "type": "int"}]}`, read: tableSchema},
		{
			Name: "table_column_lineage", Types: []string{"object"}, read: columnLineage,
			Example: `{"deps_by_column": {"a": [{"asset_key": ["raw", "x"], "column_name": "b"}]}}`,
		},
		{Name: Infer, Types: []string{"string", "bool", "null", "integer", "float", "list"}, Long: true, Example: "[1, 2.5]", instead: jsonOfObject},
	}
}

// Names returns the names of the kinds.
func Names() (names []string) {
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// Read returns the kind of a value that was sent as {"type": name, "raw_value":
// raw}, and raw in the form that Dagster's reader needs. Where that reader would
// end but the meaning is plain, Read repairs the value: an integer of kind float
// gets a point. The error names the value and what is allowed.
func Read(name string, raw any) (k Kind, normal any, err error) {
	if k, err = find(name); err != nil {
		return k, nil, err
	}
	if k.instead != nil {
		if other := k.instead(raw); other != "" {
			return Read(other, raw)
		}
	}
	if !slices.Contains(k.Types, TypeOf(raw)) {
		text, _ := json.Marshal(raw) // raw was decoded from JSON
		return k, nil, fmt.Errorf("invalid value %.200s for type %s: must be %s", text, name, strings.Join(k.Types, " or "))
	}
	if k.read != nil {
		raw = k.read(Of(nil, "", &err), raw)
	}
	return k, raw, err
}

func find(name string) (Kind, error) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, nil
		}
	}
	return Kind{}, fmt.Errorf("invalid value %.200q for type: must be one of %s", name, strings.Join(Names(), ", "))
}

// TypeOf returns the JSON type of a decoded value: object, list, string, bool,
// null, integer, or float for a number with a point or an exponent.
func TypeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "bool"
	case []any:
		return "list"
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return "float"
		}
		return "integer"
	default:
		return "object"
	}
}

// withPoint returns a number that Python reads as a float.
func withPoint(_ *Fields, raw any) any {
	if n, ok := raw.(json.Number); ok && TypeOf(n) == "integer" {
		return n + ".0"
	}
	return raw
}

// textOfNaN returns text for the floats that JSON has no number for, in the words
// of Python and of Go.
func textOfNaN(raw any) string {
	if slices.Contains([]any{"NaN", "Infinity", "-Infinity", "+Inf", "-Inf"}, raw) {
		return "text"
	}
	return ""
}

func jsonOfObject(raw any) string {
	if TypeOf(raw) == "object" {
		return "json"
	}
	return ""
}

func table(f *Fields, raw any) any {
	in := f.Within("raw_value", raw)
	records := []any{}
	for i, v := range in.List("records") {
		record := in.Within(fmt.Sprintf("record %d", i), v)
		for column, cell := range record.Values {
			if t := TypeOf(cell); t == "object" || t == "list" {
				record.Fail(fmt.Sprintf("column %.80q", column), cell, "a string, a number, true, false or null")
			}
		}
		records = append(records, record.Values)
	}
	return map[string]any{"records": records, "schema": columns(in, "schema")}
}

func tableSchema(f *Fields, raw any) any {
	return map[string]any{"columns": columns(f.Within("raw_value", raw), "columns")}
}

func columns(f *Fields, name string) []any {
	all := []any{}
	for i, v := range f.List(name) {
		all = append(all, column(f.Within(fmt.Sprintf("%s %d", name, i), v)))
	}
	return all
}

// column returns a column without the fields that say what Dagster assumes.
func column(f *Fields) map[string]any {
	c := map[string]any{"name": f.Text("name"), "type": f.Text("type")}
	if c["type"] == "" {
		c["type"] = "string"
	}
	if _, ok := f.Values["description"]; ok {
		if d := f.Nullable("description"); d != "" {
			c["description"] = d
		}
	}
	if v, _ := f.Optional("tags"); v != nil {
		tags, all := f.Within("tags", v), map[string]any{}
		for name := range tags.Values {
			all[name] = tags.Text(name)
		}
		if len(all) > 0 {
			c["tags"] = all
		}
	}
	if v, _ := f.Optional("constraints"); v != nil {
		if limits := constraints(f.Within("constraints", v)); limits != nil {
			c["constraints"] = limits
		}
	}
	return c
}

// constraints returns the constraints of a column, nil if nothing is restricted.
func constraints(f *Fields) any {
	nullable, unique, others := true, false, []any{}
	if _, ok := f.Values["nullable"]; ok {
		nullable = f.Bool("nullable")
	}
	if _, ok := f.Values["unique"]; ok {
		unique = f.Bool("unique")
	}
	if _, ok := f.Values["other"]; ok {
		others = anys(f.Texts("other"))
	}
	f.End()
	if nullable && !unique && len(others) == 0 {
		return nil
	}
	return map[string]any{"nullable": nullable, "unique": unique, "other": others}
}

func columnLineage(f *Fields, raw any) any {
	in := f.Within("raw_value", raw)
	from := in.Within("deps_by_column", in.Value("deps_by_column"))
	by := map[string]any{}
	for name := range from.Values {
		deps := []any{}
		for i, v := range from.List(name) {
			dep := from.Within(fmt.Sprintf("%s %d", name, i), v)
			deps = append(deps, map[string]any{"asset_key": assetKey(dep), "column_name": dep.Text("column_name")})
			dep.End()
		}
		by[name] = deps
	}
	return map[string]any{"deps_by_column": by}
}

// assetKey returns the parts of an asset's key: of a list its strings; a string is
// the only part.
func assetKey(f *Fields) []any {
	if key, ok := f.Values["asset_key"].(string); ok {
		delete(f.Values, "asset_key")
		return []any{key}
	}
	return anys(f.Texts("asset_key"))
}

func anys(texts []string) []any {
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	return all
}
