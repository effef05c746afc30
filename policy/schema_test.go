package policy_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/policy"
)

// docs/policy.schema.json is made by Schema: PERDURE_TEST_UPDATE=1 writes it.
func TestSchemaIsPublished(t *testing.T) {
	const path = "../docs/policy.schema.json"
	if os.Getenv("PERDURE_TEST_UPDATE") != "" {
		if err := os.WriteFile(path, policy.Schema(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skip("the module is tested without the repository")
	}
	if err != nil || !bytes.Equal(got, policy.Schema()) {
		t.Errorf("%s is not that of the tables of parameters (%v): PERDURE_TEST_UPDATE=1 go test ./policy", path, err)
	}
}

// A judge says of policy files what Load says, and what the schema says.
type judge struct {
	schema *jsonschema.Schema
	path   string
}

func newJudge(t *testing.T) judge {
	t.Helper()
	text, err := jsonschema.UnmarshalJSON(bytes.NewReader(policy.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("policies.json", text); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("policies.json")
	if err != nil {
		t.Fatal(err)
	}
	return judge{schema, filepath.Join(t.TempDir(), "policies.yaml")}
}

// judge returns the errors of Load and of the schema.
func (j judge) judge(t *testing.T, text string) (load, schema error) {
	t.Helper()
	rewrite(t, j.path, text)
	_, load = policy.Options{Store: func(string) (circuit.Store, error) { return new(circuit.Memory), nil }}.Load(j.path)
	var value any
	err := yaml.Unmarshal([]byte(text), &value)
	var plain []byte
	if err == nil {
		plain, err = json.Marshal(value)
	}
	if err == nil {
		value, err = jsonschema.UnmarshalJSON(bytes.NewReader(plain))
	}
	if err != nil {
		return load, err
	}
	return load, j.schema.Validate(value)
}

// Of random files, the schema accepts all that Load accepts, and Load refuses those that the
// schema accepts only for the reasons that the doc of Schema lists.
func TestSchemaAgreesWithLoad(t *testing.T) {
	t.Setenv("PERDURE_STATE", t.TempDir())
	j := newJudge(t)
	const fixed = 15
	seed := testseed.Of(t, fixed)
	r := files{rand.New(rand.NewPCG(seed, 6))} //nolint:gosec // a seed
	accepted, refused, stricter := 0, 0, map[string]int{}
	for range 1200 {
		text := r.file()
		load, schema := j.judge(t, text)
		switch {
		case load == nil && schema == nil:
			accepted++
		case load == nil:
			t.Errorf("Load accepts what the schema refuses: %s\n%v", text, schema)
		case schema != nil:
			refused++
		default:
			why := reason(text, load)
			if stricter[why]++; why == "" {
				t.Errorf("the schema accepts: %s\n%v", text, load)
			}
		}
	}
	t.Logf("%d accepted, %d refused, Load is stricter: %v", accepted, refused, stricter)
	for _, why := range reasons() {
		if seed == fixed && stricter[why[0]] == 0 {
			t.Errorf("no file was refused because of %s", why[0])
		}
	}
	if accepted < 150 || refused < 150 {
		t.Errorf("%d files are accepted, %d refused", accepted, refused)
	}
}

// reasons returns the reasons for which Load refuses what the schema accepts, and the form
// of a file with the first line of its error. The first one that matches applies.
func reasons() [][2]string {
	return [][2]string{
		{"values that contradict each other", `must be (at least|above|used with|unset)|must be 5 or absent`},
		{"an absent name", `for \S+\.(circuit_breaker|policy): must be`},
		{"no word, status or code", `(retry_on|ignore_on): must be`},
		{"an invalid path, address or host", `invalid value "[^"]*" for proxy(\.\S+\.to)?: must be`},
		{"a path twice", `/ is set twice`},
		{"an anchor or a tag", `(?s)(&a |!!str ).*: anchors, aliases and tags`},
		{"a text or another notation out of range", `invalid value "[^"]*[0-9.]+[^"]*"`},
	}
}

func reason(text string, err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	i := slices.IndexFunc(reasons(), func(why [2]string) bool { return regexp.MustCompile(why[1]).MatchString(text + line) })
	plain := regexp.MustCompile(`value "(-?[1-9][0-9]*|0|[0-9]*\.[0-9]*[1-9])" for .*\.(\w+):`).FindStringSubmatch(line)
	if i < 0 || i == len(reasons())-1 && plain != nil && strings.Contains(text, plain[2]+": "+plain[1]+",") {
		return "" // a number that is not in quotes
	}
	return reasons()[i][0]
}

// files makes random files.
type files struct{ *rand.Rand }

// values are values of all kinds, as they are written in a file.
func values() []string {
	return strings.Split(`7|1|0|-1|1.5|.5|0.25|2|31|32|1000|1001|1e3|-0|+3|"7"|" 7 "|"0"|"-0"|"1001"|7.0|0x10|1_000|0x1p4|010|1e400|`+
		`250ms|1m30s|"1 s"|0s|1h|3ms|721h|60/m|"60 / m"|0/s|2000000/s|9/y|unlimited|off|" off "|Off|on|yes|true|false|TRUE|"true"|"t"|" F "|~||""|" "|`+
		`wait|full|" full "|equal|fail_fast|s3_upload|S3-Upload|service|" service"|Pipeline|timeout|Timeout|"timeout,503"|[503]|[503, SlowDown]|`+
		`[timeout, default]|["a,B"]|[]|[TRUE, 4xx]|[[1]]|08006|"08006"|503|299|SlowDown|slowdown|a.b|"a b"|{}|{a: 1}|w|x|memory|host|" host"|`+
		`redis://c|redis://|disk|unix:///s|2024-01-01|*a|&a 7|!!str 7|inf|é|"µ"|10µs`, "|")
}

func (r files) of(all ...string) string { return all[r.IntN(len(all))] }

// file returns a file of a few sections.
func (r files) file() string {
	if r.IntN(50) == 0 {
		return r.of(values()...)
	}
	breaker := func() string { return r.parameters(func(p policy.Parameter) bool { return p.Breaker }) }
	one := func() string {
		return r.parameters(func(p policy.Parameter) bool { return !p.Breaker && p.Name != "store" })
	}
	named := func() string {
		body := strings.TrimSuffix(one(), "}")
		switch r.IntN(4) {
		case 0:
			body += "circuit_breaker: " + r.of("w", "x", "y", "~", "5", "\"\"", "a b")
		case 1:
			body += "circuit_breaker: " + breaker()
		}
		return body + "}"
	}
	var lines []string
	section := func(name, body string) { lines = append(lines, name+": "+r.damage(body)) }
	switch r.IntN(3) {
	case 0:
		section("policy", one())
		section("circuit_breaker", breaker())
	case 1:
		section("policies", "{"+r.of("default", "a", "\"a b\"", "5", "a", "a")+": "+r.damage(named())+", b: "+named()+"}")
		section("breakers", "{w: "+breaker()+", x: "+r.of(breaker(), "{preset: service}", "{preset: Pipeline}", "{preset: s3_upload}")+"}")
	default:
		section("policies", "{a: "+named()+"}")
	}
	if r.IntN(6) == 0 {
		section("store", r.of(values()...))
	}
	if r.IntN(4) == 0 {
		section("proxy", "{"+r.of("/", "/p", "/p", "/p", "p", "/.perdure", "/.perdure/x", "/.perdured", "\"\"", "/a?b", "'h:9000'", "':99999'", "'unix:/s'", "'unix:@s'", "'unix:'", "h")+": {to: "+r.of("'http://a'", "HTTPS://a:1/b", "'http://a/?'", "'http://a/#'", "'http://a?b'",
			"'http://u:p@a'", "ftp://a", "a", "'http://'", "'http://a b'", "~", "[a]")+r.of("", "", ", policy: a", ", policy: service", ", policy: none", ", polcy: a", ", policy: ''")+"}"+
			r.of("", ", /p/: {to: 'http://b'}", ", /p/: {to: 'http://b'}", ", /q: ~", ", /q: {}")+"}")
	}
	if r.IntN(20) == 0 {
		section(r.of("policy", "breakers", "policies", "polices", "store"), r.of("{}", "~", "memory"))
	}
	return strings.Join(lines, "\n") + "\n"
}

// parameters returns a mapping of a few of the wanted parameters, most of them with values of
// their kind.
func (r files) parameters(wanted func(policy.Parameter) bool) string {
	text := "{"
	for _, p := range policy.Parameters() {
		if !wanted(p) || r.IntN(8) > 0 {
			continue
		}
		name, value := p.Name, "1"
		switch kind, _, _ := strings.Cut(p.Want, " "); kind {
		case "one":
			value = r.of(p.Words()...)
		case "true":
			value = r.of("true", "false")
		case "values":
			value = r.of("503", "timeout", "[SlowDown, 5xx]", "TimeOut")
		case "seconds":
			value = r.of("7", "0.5", "10s", "2m")
		case "calls":
			value = r.of("2", "60/m")
		}
		if r.IntN(12) == 0 {
			value = r.of(values()...)
		}
		if r.IntN(3) == 0 {
			name = strings.TrimSuffix(name, "_seconds")
		}
		text += r.damageName(name) + ": " + value + ", "
	}
	return text + "}"
}

// damageName returns name, or rarely another one.
func (r files) damageName(name string) string {
	if r.IntN(100) > 0 {
		return name
	}
	return r.of(name+"x", strings.ToUpper(name), "rate", "max_attempts", "preset", "store", "circuit_breaker")
}

// damage returns body, or rarely a value of another kind.
func (r files) damage(body string) string {
	if r.IntN(40) > 0 {
		return body
	}
	return r.of(values()...)
}
