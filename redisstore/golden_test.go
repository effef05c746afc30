package redisstore_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
)

// A record holds, for each field of hashes and messages, the forms of its values.
type record struct {
	mu    sync.Mutex
	forms map[string]map[string]bool
}

func (r *record) note(field, form string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forms[field] == nil {
		r.forms[field] = map[string]bool{}
	}
	r.forms[field][form] = true
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for field, forms := range r.forms {
		lines = append(lines, field+": "+strings.Join(slices.Sorted(maps.Keys(forms)), ", or ")+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// differs returns how r differs from a golden record: in its fields, or by a form that
// the golden record lacks. r may lack a form: some exist only for a moment.
func (r *record) differs(golden string) (what string) {
	want := map[string][]string{}
	for line := range strings.Lines(golden) {
		field, forms, _ := strings.Cut(strings.TrimSpace(line), ": ")
		want[field] = strings.Split(forms, ", or ")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for field := range want {
		if r.forms[field] == nil {
			what += field + " is no more\n"
		}
	}
	for field, forms := range r.forms {
		for form := range forms {
			if !slices.Contains(want[field], form) {
				what += field + " is new: " + form + "\n"
			}
		}
	}
	return what
}

// form returns the form of a value, without what differs between runs. All durations of
// this test are an hour.
func form(field, value string) string {
	if before, after, ok := strings.Cut(value, " "); ok {
		return form(field, before) + " " + form(field, after)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	hour, now := time.Hour.Milliseconds(), time.Now().UnixMilli()
	near := func(a, b int64) bool { return max(a-b, b-a) < hour/10 }
	switch {
	case regexp.MustCompile(`^[A-Z2-7]{26}$`).MatchString(value):
		return "<random>"
	case regexp.MustCompile(`^[0-9]+-[A-Z2-7]{26}$`).MatchString(value):
		return "<process ID>-<random>"
	case err != nil, slices.Contains([]string{"format", "reason", "hand", "lease.used", "lease.wanted"}, field):
		return strconv.Quote(value)
	case n == 0:
		return "0"
	case near(n, now):
		return "<instant in ms>"
	case near(n, now+hour):
		return "<instant in ms, an hour ahead>"
	case near(n, hour) && n > hour/2:
		return "<an hour in ms>"
	}
	return "<number>"
}

// over is an instant in the past, which this test writes.
const over = "1000"

// hash records the fields of a hash.
func (r *record) hash(hash map[string]string) {
	for field, value := range hash {
		for prefix, rest := range map[string]string{"share.": "<cell>", "vote.": "<node>", "alive.": "<node>"} {
			if strings.HasPrefix(field, prefix) {
				field = prefix + rest
			}
		}
		if value != over {
			r.note("hash "+field, form(field, value))
		}
	}
}

// message records the fields of a message.
func (r *record) message(text string) {
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		r.note("message", err.Error())
	}
	for field, value := range m {
		f := fmt.Sprint(value)
		if f = form(field, f); fmt.Sprintf("%T", value) == "string" && f[0] == '<' {
			f = strconv.Quote(f)
		}
		r.note("message "+field, strings.TrimSuffix(fmt.Sprintf("%T ", value), "string ")+f)
	}
}

// Other releases read what this one writes to the server. A change of its meaning needs a
// new format, or two releases misread each other. A new field of the hash needs no new
// format if a release that does not know the field may ignore it, as with those of the
// rate: then write it to the golden file.
func TestFormat(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("a change of what is in the hashes or messages needs a new format: raise the format (const format in script.go)")
		}
	})
	srv := startServer(t)
	c, r := srv.client(), &record{forms: map[string]map[string]bool{}}
	listening := make(chan struct{})
	ctx := rueidis.WithOnSubscriptionHook(t.Context(), func(rueidis.PubSubSubscription) { close(listening) })
	go func() {
		_ = c.Receive(ctx, c.B().Subscribe().Channel("circuit_breaker:changes").Build(),
			func(m rueidis.PubSubMessage) { r.message(m.Message) })
	}()
	<-listening
	live(t, srv, c, r)
	hash, _ := hashOf(t, c, "circuit_breaker:backend")
	path := filepath.Join("testdata", "format-"+hash["format"]+".golden")
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("format %q is new: if that is meant, write this to %s\n%s", hash["format"], path, r)
	}
	if what := r.differs(string(want)); what != "" {
		t.Errorf("what is in the hashes or messages has changed:\n%sNow:\n%s", what, r)
	}
}

// live leads a breaker through all steps that write to its hash.
func live(t *testing.T, srv *server, c rueidis.Client, r *record) {
	t.Helper()
	key := "circuit_breaker:backend"
	until := func(what string, is func(hash map[string]string) bool) {
		t.Helper()
		eventually(t, func() bool {
			hash, _ := hashOf(t, c, key)
			r.hash(hash)
			return is(hash)
		}, "the hash says %s", what)
	}
	has := func(fields ...string) {
		t.Helper()
		until("that there is "+strings.Join(fields, ", "), func(hash map[string]string) bool {
			for _, field := range fields {
				if hash[field] == "" {
					return false
				}
			}
			return true
		})
	}
	set := func(field, value string) {
		t.Helper()
		if err := c.Do(t.Context(), c.B().Hset().Key(key).FieldValue().FieldValue(field, value).Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	o := brisk(srv)
	fleet(t, 1, o, circuit.Config{Budget: 100})[0].Close()
	until("what the one budget has begun with", func(hash map[string]string) bool { return hash["budget"] != "" && hash["budget"] != "0" })
	hash, _ := hashOf(t, c, key)
	r.note("hash budget of one token", hash["budget"])
	if p, err := fleet(t, 1, o, circuit.Config{Rate: 1})[0].Acquire(); err == nil {
		p.Success()
	}
	has("rate.next", "rate.at", "rate.limit")
	o.Quorum = 2
	f := fleet(t, 2, o, circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Hour, ProbeLease: time.Hour, Budget: 100})
	has("format", "epoch", "gen", "state", "alive.node-0", "budget")
	for i, m := range f {
		fail(t, m.Breaker)
		if i == 0 {
			has("vote.node-0")
		}
	}
	has("since", "until", "reason", "hand")
	f[0].Isolate()
	until("that it is isolated", func(hash map[string]string) bool { return hash["state"] == "isolated" && hash["hand.at"] != "" })
	f[1].Breaker.Reset()
	until("that it is closed", func(hash map[string]string) bool { return hash["state"] == "closed" })
	for _, m := range f {
		eventually(t, func() bool { return m.State() == circuit.Closed }, "all follow")
		fail(t, m.Breaker)
	}
	until("that it is open", func(hash map[string]string) bool { return hash["state"] == "open" })
	set("until", over) // its time is up, for processes that begin now
	o = unhurried(srv) // or the first could lose its lease before it sends a probe
	o.Quorum = 2
	f = fleet(t, 2, o, circuit.Config{FailureThreshold: 1, RecoveryTimeout: time.Hour, ProbeLease: time.Hour})
	var probe circuit.Permit
	until("which process sends a probe", func(hash map[string]string) bool {
		if p, err := f[0].Acquire(); err == nil {
			probe = p
		}
		return hash["lease.process"] != "" && hash["lease.used"] != ""
	})
	eventually(t, func() bool {
		_, err := f[1].Acquire()
		hash, _ := hashOf(t, c, key)
		r.hash(hash)
		return err != nil && hash["lease.wanted"] != ""
	}, "the other wants the lease")
	probe.Failure()
	has("shy")
}
