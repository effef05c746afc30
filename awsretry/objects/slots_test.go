package objects_test

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// asked returns a value of each request of an operation, in order.
func asked(server *s3test.Server, operation string, value func(s3test.Request) string) (values []string) {
	for _, r := range server.Requests() {
		if r.Operation == operation {
			values = append(values, value(r))
		}
	}
	return values
}

// unhurried is quick with a wait in which another request begins on a busy machine, too.
func unhurried() *retry.Policy {
	p := quick()
	p.BaseDelay, p.ThrottleDelay, p.MaxDelay = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	return p
}

func partNumber(r s3test.Request) string { return r.Query.Get("partNumber") }

// While a part waits for its next attempt, the next part takes its slot, except in a stream, whose parts need memory.
func TestPartThatWaitsLetsAnotherGo(t *testing.T) {
	body := content(1, 12*mib)
	for name, test := range map[string]struct {
		source io.Reader
		want   []string
	}{
		"file":   {bytes.NewReader(body), []string{"1", "2"}},
		"stream": {stream{bytes.NewReader(body)}, []string{"1", "1"}},
	} {
		server := start(t, script(s3test.Rule{Operation: "UploadPart", Nth: []int{1}, Fault: s3test.SlowDown()}))
		store := open(t, server, objects.Options{Policy: unhurried(), PartSize: 5 * mib, Parallel: 1})
		if _, err := store.Put(t.Context(), bucket, "k", test.source, objects.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		stored(t, server, "k", body)
		if got := asked(server, "UploadPart", partNumber); len(got) != 6 || !slices.Equal(got[:2], test.want) {
			t.Errorf("%s: parts %q were sent, want all of them twice, and %q first", name, got, test.want)
		}
	}
}

// A store that refuses everything gets at most twice as many parts as are sent at a time.
func TestPartsThatWaitAreFew(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "UploadPart", Fault: s3test.SlowDown()}))
	store := open(t, server, objects.Options{PartSize: 5 * mib, Parallel: 1})
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 31*mib)), objects.PutOptions{}); err == nil {
		t.Error("no part arrives, and no error")
	}
	got := asked(server, "UploadPart", partNumber)
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("parts %q were sent, want 1 and 2", got)
	}
}

// While the first response is requested again, a piece comes from the end.
func TestPieceThatWaitsLetsAnotherCome(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "GetObject", Nth: []int{1}, Fault: s3test.CutBody(0)}))
	store := open(t, server, objects.Options{Policy: unhurried(), PartSize: 5 * mib, Parallel: 1})
	body := content(1, 15*mib)
	fetch(t, server, store, body)
	got := asked(server, "GetObject", func(r s3test.Request) string { return r.Header.Get("Range") })
	if len(got) < 2 || got[0] != "" || got[1] != "bytes=10485760-15728639" {
		t.Errorf("requested %q, want the last piece after the first response", got)
	}
}
