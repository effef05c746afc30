package pipes

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/pipesjson"
	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// Dagster's reader survives reports of any values.
func FuzzReports(f *testing.F) {
	f.Add("text", []byte(`{"a":[1,2.0,"\ud800"]}`), 100.0, int64(1), "int")
	f.Add("é\x00\xff😀\u2028", []byte(`1e999`), math.Inf(-1), int64(math.MinInt64), "__infer__")
	f.Add("https://u:p@h/?key=a&key=b#token=c", []byte(`[[[[]]]]`), math.SmallestNonzeroFloat64, int64(-1), "json")
	f.Add("a/b\\/c", []byte(`"x"`), -1e-300, int64(62135596800), "float")
	f.Add("", []byte(`null`), 1e21, int64(0), "timestamp")
	f.Fuzz(func(t *testing.T, text string, raw []byte, number float64, n int64, kind string) {
		for _, c := range []dict{pipestest.Context("my_asset"), pipestest.Context()} {
			l := listen(t, c)
			reportAll(l.Session, text, raw, number, n, kind)
			if out, err := l.Stream(Stdout); err == nil {
				_, _ = fmt.Fprint(out, text)
			}
			l.Close(fmt.Errorf("%s: %w", text, errors.Join(errors.New(text), coded{int(n)})))
			written, err := os.ReadFile(l.file)
			if err != nil {
				t.Fatal(err)
			}
			r, err := pipestest.Read(written)
			if err != nil || r.Opened != 1 || r.Closed != 1 {
				t.Fatalf("opened %d times, closed %d times: %v", r.Opened, r.Closed, err)
			}
		}
	})
}

// reportAll calls every method that reports. A report that is refused is not written.
func reportAll(s *Session, text string, raw []byte, number float64, n int64, kind string) {
	s.include = true
	var decoded any
	_ = json.Unmarshal(raw, &decoded)
	values := []Value{
		Text(text), Markdown(text), URL(text), Path(text), Notebook(text), Bool(n > 0), Int(n), Float(number),
		Infer(new(big.Int).Lsh(big.NewInt(n), uint(n)%20000)), Seconds(time.Duration(n)), Timestamp(time.Unix(n, n)), Null(), DagsterRun(text), Asset(text),
		JSON(json.RawMessage(raw)), JSON(decoded), JSON([]any{number, text}), Infer(decoded), Infer(number), Infer(text), Infer(json.Number(text)),
		Table([]Column{{Name: text, Type: kind}}, []map[string]any{{text: decoded}, {kind: number}}),
		TableSchema(Column{Name: text, Description: kind, Tags: map[string]string{text: kind}, Constraints: []string{text}, Unique: n > 0}),
		ColumnLineage(map[string][]ColumnDep{text: {{AssetKey: text, Column: kind}}}),
		Typed(kind, text), Typed(kind, decoded), Typed(kind, number), Typed(kind, n), Typed(kind, json.RawMessage(raw)),
	}
	for _, name := range pipesjson.Names() {
		values = append(values, Typed(name, decoded), Typed(name, text), Typed(name, number))
	}
	for i, v := range values {
		_ = s.Materialize(Materialization{AssetKey: fmt.Sprint(text, i), DataVersion: text, Metadata: Metadata{text: v}})
		_ = s.Check(Check{AssetKey: kind, Name: text, Severity: Severity(kind), Metadata: Metadata{kind: v}})
		_ = s.Check(Check{Name: text, Metadata: Metadata{kind: v, text: v}})
	}
	_ = s.Materialize(Materialization{DataVersion: kind, Metadata: Metadata{text: Text(text)}})
	_ = s.Log(slog.Level(n), text)
	s.Logger().Error(text, kind, decoded, slog.Group(text, kind, number))
	for _, payload := range []any{decoded, text, number, n, json.RawMessage(raw), []any{raw}, map[int64]float64{n: number}, nested(int(uint16(n)))} {
		_ = s.Custom(payload)
	}
	s.tally.on = n%2 == 0
}
