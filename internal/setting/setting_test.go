package setting

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

type mode uint8

// conf has a field of each kind.
type conf struct {
	Attempts int
	Delay    time.Duration
	Jitter   time.Duration
	Factor   float64
	Part     float64
	Off      bool // on in text
	Codes    []string
	Name     string
	Mode     mode
	Often    float64
}

func fields() []Field[conf] {
	return []Field[conf]{
		Whole("attempts", "how often", 1, math.MaxInt, "unlimited", func(c *conf) *int { return &c.Attempts }),
		Span("delay", "how long", time.Millisecond, time.Hour, None, func(c *conf) *time.Duration { return &c.Delay }),
		Span("jitter", "how much", 1, time.Hour, "0", func(c *conf) *time.Duration { return &c.Jitter }),
		Ratio("factor", "how fast", 1, 10, func(c *conf) *float64 { return &c.Factor }),
		Ratio("part", "of all", 0, 1, func(c *conf) *float64 { return &c.Part }),
		Switch("on", "at all", false, func(c *conf) *bool { return &c.Off }),
		List("codes", "which", func(c *conf) *[]string { return &c.Codes }),
		Text("name", "who", func(c *conf) *string { return &c.Name }),
		Choice("mode", "how", []string{"plain", "full", "none"}, func(c *conf) *mode { return &c.Mode }),
		Rate("often", "how often", func(c *conf) *float64 { return &c.Often }),
	}
}

func TestSet(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       conf
	}{
		{"attempts", "5", conf{Attempts: 5}},
		{"attempts", "+5", conf{Attempts: 5}},
		{"attempts", strconv.Itoa(math.MaxInt), conf{Attempts: math.MaxInt}},
		{"attempts", "unlimited", conf{Attempts: -1}},
		{"delay", "1", conf{Delay: time.Second}},
		{"delay", " 1.5\n", conf{Delay: 1500 * time.Millisecond}},
		{"delay", "1500ms", conf{Delay: 1500 * time.Millisecond}},
		{"delay", "1e-3", conf{Delay: time.Millisecond}},
		{"delay", "1.000000001", conf{Delay: time.Second + 1}},
		{"delay", "3600", conf{Delay: time.Hour}},
		{"delay", "1h", conf{Delay: time.Hour}},
		{"delay", ".5", conf{Delay: time.Second / 2}},
		{"delay", "5.", conf{Delay: 5 * time.Second}},
		{"jitter", "0", conf{Jitter: -1}},
		{"jitter", "0.0", conf{Jitter: -1}},
		{"jitter", "0s", conf{Jitter: -1}},
		{"jitter", "1e-10", conf{Jitter: -1}}, // to the nanosecond
		{"jitter", "1ns", conf{Jitter: 1}},
		{"factor", "1", conf{Factor: 1}},
		{"factor", "2.5", conf{Factor: 2.5}},
		{"part", "1e-300", conf{Part: 1e-300}},
		{"on", "true", conf{}},
		{"on", "false", conf{Off: true}},
		{"on", "0", conf{Off: true}},
		{"codes", "SlowDown, 503 ,timeout", conf{Codes: []string{"SlowDown", "503", "timeout"}}},
		{"name", " upload to s3 ", conf{Name: "upload to s3"}},
		{"mode", "none", conf{Mode: 2}},
		{"often", "60/m", conf{Often: 1}},
		{"often", " 90 / m ", conf{Often: 1.5}},
		{"often", "2.5", conf{Often: 2.5}},
		{"often", "1000000/s", conf{Often: 1e6}},
		{"often", "7/h", conf{Often: 7. / 3600}},
		{"often", "1/d", conf{Often: 1. / 86400}},
	} {
		var c conf
		if err := Set(fields(), &c, row.name, row.text); err != nil || !reflect.DeepEqual(c, row.want) {
			t.Errorf("%s=%q gives %+v, %v; want %+v", row.name, row.text, c, err, row.want)
		}
		if err := Check(fields(), &c); err != nil {
			t.Errorf("%s=%q: %v", row.name, row.text, err)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	for _, row := range []struct{ name, want, texts string }{ // texts separated by |
		{"attempts", "a whole number of at least 1, or unlimited", "|0|-1|1.0|1e3|9223372036854775808|Unlimited|one|1 2|0x10"},
		{"delay", "seconds or a duration, from 1ms to 1h", "|0|0.0001|-1|3600.001|61m|NaN|Inf|-Inf|1e400|1e18|1y|1s1|9223372036.8547758|999999h"},
		{"jitter", "seconds or a duration, above 0 and at most 1h, or 0", "|-1|-1ns|-1e-9|NaN|none"},
		{"factor", "a number from 1 to 10", "|0|0.999|10.001|-2|NaN|Inf|two|1,5"},
		{"part", "a number above 0, at most 1", "|0|-0|-0.1|1.1|NaN|1e-400|-Inf"},
		{"on", "true or false", "|yes|no|2|on|null"},
		{"codes", "values separated by commas, none of them empty", "|,|a,|,a|a,,b| "},
		{"name", "a text, not empty", "| "},
		{"mode", "one of plain, full, none", "|Full|ful|3|0"},
		{"often", "calls per second, or per unit as in 60/m (units s, m, h, d), from 1/d to 1000000/s", "|0|-1|0/m|1/w|1/min|60/|/m|60m|1/2/m|0.9/d|1e-6|1000001|60000001/m|NaN|Inf/s|60 per minute"},
	} {
		for text := range strings.SplitSeq(row.texts, "|") {
			c := conf{Attempts: 3, Codes: []string{"a"}, Name: "n", Mode: 1, Part: .5, Off: true}
			before := c
			err := Set(fields(), &c, row.name, text)
			bad, ok := errors.AsType[*Error](err)
			if !ok || *bad != (Error{Field: row.name, Value: strconv.Quote(text), Want: row.want}) {
				t.Errorf("%s=%q: %v", row.name, text, err)
			}
			if !reflect.DeepEqual(c, before) {
				t.Errorf("%s=%q changed the configuration to %+v", row.name, text, c)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, row := range []struct {
		err  error
		text string
	}{
		{Bad("delay", "-1", "more"), `invalid value "-1" for delay: must be more`},
		{Bad("attempts", -7, "more"), `invalid value -7 for attempts: must be more`},
		{Bad("delay", -time.Second, "more"), `invalid value -1s for delay: must be more`},
		{Bad("part", math.NaN(), "less"), `invalid value NaN for part: must be less`},
		{Bad("p.yaml:2:3: delay", "-1", "more"), `p.yaml:2:3: invalid value "-1" for delay: must be more`},
		{Bad("codes", []string{"a", ""}, "others"), `invalid value ["a" ""] for codes: must be others`},
	} {
		if got := row.err.Error(); got != row.text {
			t.Errorf("got %s, want %s", got, row.text)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Check(fields(), &conf{}); err != nil {
		t.Errorf("all zero: %v", err)
	}
	for _, row := range []struct {
		c     conf
		field string
		value string
	}{
		{conf{Attempts: -2}, "attempts", "-2"},
		{conf{Delay: -1}, "delay", "-0.000000001"},
		{conf{Delay: 1}, "delay", "0.000000001"},
		{conf{Delay: math.MinInt64}, "delay", "-9223372036.854775807"},
		{conf{Jitter: -2}, "jitter", "-0.000000002"},
		{conf{Factor: math.NaN()}, "factor", "NaN"},
		{conf{Factor: .5}, "factor", "0.5"},
		{conf{Part: math.Inf(-1)}, "part", "-Inf"},
		{conf{Codes: []string{"a", " "}}, "codes", `["a" " "]`},
		{conf{Codes: []string{"a,b"}}, "codes", `["a,b"]`},
		{conf{Mode: 3}, "mode", "3"},
	} {
		bad, ok := errors.AsType[*Error](Check(fields(), &row.c))
		// The smallest duration has no absolute value, which takes a nanosecond.
		if !ok || bad.Field != row.field || bad.Value != row.value && row.c.Delay != math.MinInt64 {
			t.Errorf("%+v: %v", row.c, bad)
		}
	}
}

func TestUnknownName(t *testing.T) {
	for _, row := range []struct{ name, suggestion string }{
		{"atempts", "attempts"},
		{"ATTEMPTS", "attempts"},
		{"delays", "delay"},
		{"dalay", "delay"},
		{"jiter", "jitter"},
		{"o", "on"},
		{"zzzzzzzz", ""},
		{"", "on"},
		{"max_attempts", "attempts"},
	} {
		bad, ok := errors.AsType[*Error](Set(fields(), new(conf), row.name, "5"))
		if !ok || bad.Field != "parameter" || bad.Value != strconv.Quote(row.name) ||
			!strings.HasPrefix(bad.Want, "one of attempts, delay, jitter, factor, part, on, codes, name, mode, often") {
			t.Errorf("%q: %v", row.name, bad)
			continue
		}
		_, got, _ := strings.Cut(bad.Want, "; did you mean ")
		if row.name != "" && strings.TrimSuffix(got, "?") != row.suggestion {
			t.Errorf("%q: did you mean %q, want %q", row.name, got, row.suggestion)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"ab", "ba", 2}} {
		if got := distance(row.a, row.b); got != row.want {
			t.Errorf("from %q to %q it is %d, want %d", row.a, row.b, got, row.want)
		}
	}
}

func TestParameters(t *testing.T) {
	all := Parameters(fields())
	if len(all) != 10 || all[0] != (Parameter{Name: "attempts", Doc: "how often", Want: "a whole number of at least 1, or unlimited"}) {
		t.Errorf("they are %+v", all)
	}
}

func TestJSON(t *testing.T) {
	for _, row := range []struct {
		c    conf
		text string
	}{
		{conf{}, `{}`},
		{conf{Attempts: -1, Jitter: -1, Off: true}, `{"attempts":"unlimited","jitter":0,"on":false}`},
		{conf{Attempts: 3, Delay: 1500 * time.Millisecond, Jitter: 1}, `{"attempts":3,"delay":1.5,"jitter":0.000000001}`},
		{conf{Delay: time.Hour, Factor: 2, Part: .25}, `{"delay":3600,"factor":2,"part":0.25}`},
		{conf{Codes: []string{"503", "a b"}, Name: `n"`, Mode: 1}, `{"codes":["503","a b"],"name":"n\"","mode":"full"}`},
		{conf{Often: 1}, `{"often":1}`},
		{conf{Often: 1.5}, `{"often":"90/m"}`},
		{conf{Often: 7. / 3600}, `{"often":"7/h"}`},
		{conf{Often: 1. / 86400}, `{"often":"1/d"}`},
		{conf{Often: 1. / 7}, `{"often":0.14285714285714285}`},
	} {
		data, err := MarshalJSON(fields(), &row.c)
		if err != nil || string(data) != row.text || !json.Valid(data) {
			t.Errorf("%+v is %s, %v; want %s", row.c, data, err, row.text)
		}
		var back conf
		if err := UnmarshalJSON(fields(), &back, data); err != nil || !reflect.DeepEqual(back, row.c) {
			t.Errorf("%s comes back as %+v, %v", data, back, err)
		}
	}
	if data, err := MarshalJSON(fields(), &conf{Factor: math.NaN()}); err == nil {
		t.Errorf("NaN is written as %s", data)
	}
}

func TestUnmarshalJSON(t *testing.T) {
	c := conf{Attempts: 3, Delay: time.Second, Codes: []string{"a"}}
	in := `{"delay":"250ms","jitter":"0","factor":"2","codes":["b",503],"on":"false"}`
	want := conf{Attempts: 3, Delay: 250 * time.Millisecond, Jitter: -1, Factor: 2, Codes: []string{"b", "503"}, Off: true}
	if err := UnmarshalJSON(fields(), &c, []byte(in)); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%s over what there was gives %+v, %v", in, c, err)
	}
	for _, row := range []struct{ in, field string }{
		{`{"delay":{}}`, "delay"},
		{`{"delay":null}`, "delay"},
		{`{"delay":[]}`, "delay"},
		{`{"delay":"x","name":"never"}`, "delay"},
		{`{"name":"first","delay":-5}`, "delay"},
		{`{"codes":["a,b"]}`, "codes"},
		{`{"codes":[["a"],{}]}`, "codes"},
		{`{"codes":[null]}`, "codes"},
		{`{"codes":[]}`, "codes"},
		{`{"Delay":1}`, "parameter"},
		{`{"delay":1,"":2}`, "parameter"},
	} {
		before := conf{Attempts: 7}
		c := before
		bad, ok := errors.AsType[*Error](UnmarshalJSON(fields(), &c, []byte(row.in)))
		if !ok || bad.Field != row.field || !reflect.DeepEqual(c, before) {
			t.Errorf("%s: %v, and it is %+v", row.in, bad, c)
		}
	}
	for _, in := range []string{``, `{`, `[1]`, `"x"`, `{"delay":1}}`} {
		if err := UnmarshalJSON(fields(), new(conf), []byte(in)); err == nil {
			t.Errorf("%q is read as an object", in)
		}
	}
}

// FuzzSpan reads any text as a time: what is accepted is within the bounds, is
// what a float says, and is the same when written and read again.
func FuzzSpan(f *testing.F) {
	for _, s := range []string{"1", "1.5", "1500ms", "-1", "NaN", "1e9", "0x1p3", "1_000", "3600.0000000001", "1h1h", "+.5", "９"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c conf
		if err := Set(fields(), &c, "delay", text); err != nil {
			if c.Delay != 0 {
				t.Fatalf("%q is refused and leaves %v", text, c.Delay)
			}
			return
		}
		if c.Delay < time.Millisecond || c.Delay > time.Hour {
			t.Fatalf("%q is accepted as %v", text, c.Delay)
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(text), 64); err == nil && math.Abs(v-c.Delay.Seconds()) > 1e-9+v*1e-12 {
			t.Fatalf("%q is read as %v", text, c.Delay)
		}
		var again conf
		if err := Set(fields(), &again, "delay", decimal(c.Delay)); err != nil || again.Delay != c.Delay {
			t.Fatalf("%q is %v, written as %s, and then %v, %v", text, c.Delay, decimal(c.Delay), again.Delay, err)
		}
	})
}

// FuzzJSON reads any JSON: what is accepted passes Check, and is the same when
// written and read again.
func FuzzJSON(f *testing.F) {
	f.Add(`{"attempts":"unlimited","jitter":0,"on":false,"delay":1.5}`)
	f.Add(`{"codes":["a",503],"name":"x","mode":"full","part":1e-9}`)
	f.Add(`{"codes":"a,b","factor":"1.000000000000001","jitter":1e-9}`)
	f.Fuzz(func(t *testing.T, in string) {
		var c, back conf
		if UnmarshalJSON(fields(), &c, []byte(in)) != nil {
			if !reflect.DeepEqual(c, conf{}) {
				t.Fatalf("%s is refused and leaves %+v", in, c)
			}
			return
		}
		if err := Check(fields(), &c); err != nil {
			t.Fatalf("%s is accepted: %v", in, err)
		}
		data, err := MarshalJSON(fields(), &c)
		if err != nil {
			t.Fatalf("%s is accepted and cannot be written: %v", in, err)
		}
		if err := UnmarshalJSON(fields(), &back, data); err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%s is %+v, written as %s, and then %+v, %v", in, c, data, back, err)
		}
	})
}
