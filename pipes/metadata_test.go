package pipes

import (
	"encoding/json"
	"math"
	"math/big"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/pipesjson"
	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// A metadataCase is a value, and the JSON that is written for it.
type metadataCase struct {
	value Value
	want  string
}

// metadataCases covers every constructor and every kind. For Python 100 is not a float,
// and 100.0 not an integer.
func metadataCases() []metadataCase {
	return []metadataCase{
		{Infer("s"), `{"type":"__infer__","raw_value":"s"}`},
		{Infer(7), `{"type":"__infer__","raw_value":7}`},
		{Infer(1.5), `{"type":"__infer__","raw_value":1.5}`},
		{Infer(100.0), `{"type":"__infer__","raw_value":100.0}`},
		{Infer(float32(2)), `{"type":"__infer__","raw_value":2.0}`},
		{Infer(math.NaN()), `{"type":"text","raw_value":"NaN"}`},
		{Infer(true), `{"type":"__infer__","raw_value":true}`},
		{Infer(nil), `{"type":"__infer__","raw_value":null}`},
		{Infer([]any{1, "a"}), `{"type":"__infer__","raw_value":[1,"a"]}`},
		{Text("t"), `{"type":"text","raw_value":"t"}`},
		{Text(""), `{"type":"text","raw_value":""}`},
		{Markdown("# m"), `{"type":"md","raw_value":"# m"}`},
		{URL("https://u@h/?sig=x"), `{"type":"url","raw_value":"https://REDACTED@h/?sig=REDACTED"}`},
		{Path("/p"), `{"type":"path","raw_value":"/p"}`},
		{Notebook("n.ipynb"), `{"type":"notebook","raw_value":"n.ipynb"}`},
		{JSON(dict{"a": []int{1}, "f": 1.0}), `{"type":"json","raw_value":{"a":[1],"f":1.0}}`},
		{JSON([]string{"x"}), `{"type":"json","raw_value":["x"]}`},
		{Float(100), `{"type":"float","raw_value":100.0}`},
		{Float(1e300), `{"type":"float","raw_value":1e+300}`},
		{Float(1e-7), `{"type":"float","raw_value":1e-07}`},
		{Float(math.Copysign(0, -1)), `{"type":"float","raw_value":-0.0}`},
		{Float(1e20), `{"type":"float","raw_value":1e+20}`},
		{Float(math.NaN()), `{"type":"text","raw_value":"NaN"}`},
		{Float(math.Inf(1)), `{"type":"text","raw_value":"+Inf"}`},
		{Float(math.Inf(-1)), `{"type":"text","raw_value":"-Inf"}`},
		{Seconds(90 * time.Second), `{"type":"float","raw_value":90.0}`},
		{Int(-3), `{"type":"int","raw_value":-3}`},
		{Infer(new(big.Int).Lsh(big.NewInt(1), 70)), `{"type":"__infer__","raw_value":1180591620717411303424}`},
		{Bool(false), `{"type":"bool","raw_value":false}`},
		{DagsterRun("r"), `{"type":"dagster_run","raw_value":"r"}`},
		{Asset("a/b"), `{"type":"asset","raw_value":"a/b"}`},
		{Null(), `{"type":"null","raw_value":null}`},
		{Value{}, `{"type":"null","raw_value":null}`},
		{Timestamp(time.Unix(1700000000, 5e8)), `{"type":"timestamp","raw_value":1.7000000005e+09}`},
		{
			Table([]Column{{Name: "a", Type: "int"}, {Name: "b"}}, []map[string]any{{"a": 1, "b": "x"}, {"a": 2.0, "b": nil}}),
			`{"type":"table","raw_value":{"records":[{"a":1,"b":"x"},{"a":2.0,"b":null}],"schema":[{"name":"a","type":"int"},{"name":"b","type":"string"}]}}`,
		},
		{
			TableSchema(Column{Name: "a", Type: "int", Description: "d", Tags: map[string]string{"k": "v"}, NotNull: true, Unique: true}),
			`{"type":"table_schema","raw_value":{"columns":[{"name":"a","type":"int","description":"d","tags":{"k":"v"},"constraints":{"nullable":false,"unique":true,"other":[]}}]}}`,
		},
		{TableSchema(), `{"type":"table_schema","raw_value":{"columns":[]}}`},
		{
			ColumnLineage(map[string][]ColumnDep{"c": {{`raw/x\/y`, "k"}}, "d": nil}),
			`{"type":"table_column_lineage","raw_value":{"deps_by_column":{"c":[{"asset_key":["raw","x/y"],"column_name":"k"}],"d":[]}}}`,
		},
		{Typed("float", 100), `{"type":"float","raw_value":100.0}`},
		{Typed("float", json.Number("1e3")), `{"type":"float","raw_value":1e3}`},
		{Typed("float", math.NaN()), `{"type":"text","raw_value":"NaN"}`},
		{Typed("__infer__", dict{"a": 1}), `{"type":"json","raw_value":{"a":1}}`},
		{
			Typed("table_schema", dict{"columns": []any{dict{"name": "a", "type": "", "description": nil, "tags": dict{}, "constraints": dict{"unique": true}}}}),
			`{"type":"table_schema","raw_value":{"columns":[{"name":"a","type":"string","constraints":{"nullable":true,"unique":true,"other":[]}}]}}`,
		},
		{
			Typed("table_column_lineage", dict{"deps_by_column": dict{"a": []any{dict{"asset_key": "x/y", "column_name": "b"}}}}),
			`{"type":"table_column_lineage","raw_value":{"deps_by_column":{"a":[{"asset_key":["x/y"],"column_name":"b"}]}}}`,
		},
		{Typed("timestamp", 5), `{"type":"timestamp","raw_value":5.0}`},
		{Typed("text", "x"), `{"type":"text","raw_value":"x"}`},
		{Typed("bool", true), `{"type":"bool","raw_value":true}`},
		{Typed("json", dict{}), `{"type":"json","raw_value":{}}`},
		{Typed("null", nil), `{"type":"null","raw_value":null}`},
		{Typed("int", 5), `{"type":"int","raw_value":5}`},
		{Typed("__infer__", []int{1}), `{"type":"__infer__","raw_value":[1]}`},
	}
}

func TestMetadata(t *testing.T) {
	for _, c := range metadataCases() {
		l := listen(t, pipestest.Context("my_asset"))
		if err := l.Materialize(Materialization{Metadata: Metadata{"m": c.value}}); err != nil {
			t.Errorf("%s: %v", c.want, err)
			continue
		}
		l.Close(nil)
		got := l.received()[1].Params["metadata"].(map[string]any)["m"]
		if !reflect.DeepEqual(got, parse(t, c.want)) {
			t.Errorf("metadata %v, want %s", got, c.want)
		}
	}
}

// Each kind of the table has a constructor with a row in metadataCases, and an example
// in its normal form. The contract program sends the examples to the real Dagster. Each
// kind that a constructor names has a row in the table.
func TestEachKindIsEverywhere(t *testing.T) {
	made := map[string]bool{}
	for _, c := range metadataCases() {
		made[c.value.kind] = true
	}
	for _, k := range pipesjson.Kinds() {
		if !made[k.Name] {
			t.Errorf("kind %q has no row in metadataCases: add its constructor to metadata.go, and the row", k.Name)
		}
		l := listen(t, pipestest.Context("my_asset"))
		if err := l.Materialize(Materialization{Metadata: Metadata{"m": Typed(k.Name, json.RawMessage(k.Example))}}); err != nil {
			t.Errorf("kind %q: the example of internal/pipesjson/kinds.go is refused: %v", k.Name, err)
			continue
		}
		l.Close(nil)
		got := l.received()[1].Params["metadata"].(map[string]any)["m"]
		if want := (dict{"type": k.Name, "raw_value": parse(t, k.Example)}); !reflect.DeepEqual(got, any(want)) {
			t.Errorf("kind %q: the example of internal/pipesjson/kinds.go is written as %v, want %v", k.Name, got, want)
		}
	}
	source, err := os.ReadFile("metadata.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?:kind: |Typed\()"(.*?)"`).FindAllSubmatch(source, -1) {
		if kind := string(m[1]); !slices.Contains(pipesjson.Names(), kind) {
			t.Errorf("kind %q of metadata.go has no row in internal/pipesjson/kinds.go", kind)
		}
	}
}
