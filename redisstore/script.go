package redisstore

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the server names scripts by it
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
)

//go:embed lua/*.lua
var lua embed.FS

// A script is one of the scripts in lua, named as its file.
type script struct{ body, sha string }

// scripts are all of them.
//
//nolint:gochecknoglobals // a constant table
var scripts = load("read", "trip", "lease", "settle", "release", "hand", "hold", "restore", "budget")

func load(names ...string) map[string]script {
	all := make(map[string]script)
	prelude := text("prelude")
	for _, name := range names {
		body := prelude + text(name)
		sum := sha1.Sum([]byte(body)) //nolint:gosec // the server names scripts by it
		all[name] = script{body: body, sha: hex.EncodeToString(sum[:])}
	}
	return all
}

func text(name string) string {
	b, err := lua.ReadFile("lua/" + name + ".lua")
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(b)
}

// A call is one run of a script on one key.
type call struct {
	script string
	key    *key
	args   []string // from the sixth on
	job    any      // what it does, to put it back if it fails
}

// run is the call as the server gets it: by the script's name, or with its
// text if the server does not know it.
func (s *Store) run(b rueidis.Builder, c call, whole bool) rueidis.Completed {
	sc, name := scripts[c.script], s.prefix+c.key.name
	args := append([]string{s.process, s.node, ms(5 * s.sync), rand.Text(), s.channel()}, c.args...)
	if whole {
		return b.Eval().Script(sc.body).Numkeys(1).Key(name).Arg(args...).Build()
	}
	return b.Evalsha().Sha1(sc.sha).Numkeys(1).Key(name).Arg(args...).Build()
}

// ms is a duration as the scripts take it, rounded up; not negative.
func ms(d time.Duration) string {
	return strconv.FormatInt(max(int64((d+time.Millisecond-1)/time.Millisecond), 0), 10)
}

// A reply is what the scripts answer and publish.
type reply struct {
	Key     string        `json:"key"`
	Epoch   string        `json:"epoch"`
	Gen     int64         `json:"gen"`
	State   circuit.State `json:"state"`
	Hand    bool          `json:"hand"`
	Open    int64         `json:"open"`   // milliseconds
	Reason  string        `json:"reason"` //
	Process string        `json:"process"`
	Node    string        `json:"node"`
	Lease   int64         `json:"lease"` // milliseconds
	Hold    int64         `json:"hold"`  // milliseconds
	Held    string        `json:"held"`
	Handed  string        `json:"handed"`
	Ago     int64         `json:"ago"` // milliseconds since that

	loan
}

// A loan is what the script budget answers besides, in the units of
// [cell.Budget].
type loan struct {
	Lent  int64 `json:"lent"`  // now, besides what the cell held
	Limit int64 `json:"limit"` // up to which it may hold any
	Fair  int64 `json:"fair"`  // above which it hands in what it holds
	Left  int64 `json:"left"`  // what is not lent to anybody
}

// parse reads an answer. Times that remain are counted from now, so nothing
// ends early; but the lease of the process itself from when it was asked for,
// so that it ends here no later than at the server.
func (s *Store) parse(text string, sent, now time.Time) (reply, view, error) {
	var r reply
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, view{}, fmt.Errorf("an answer of the store that is none: %w", err)
	}
	after := func(t time.Time, n int64) time.Time { return t.Add(time.Duration(n) * time.Millisecond) }
	v := view{
		epoch: r.Epoch, gen: r.Gen, state: r.State, byHand: r.Hand, reason: r.Reason,
		until: after(now, r.Open), process: r.Process, node: r.Node,
		lease: after(now, r.Lease), hold: after(now, r.Hold), held: r.Held, handed: r.Handed,
	}
	if r.Handed != "" {
		v.hand = after(now, -r.Ago)
	}
	if r.Process == s.process && !sent.IsZero() {
		v.lease = after(sent, r.Lease)
	}
	return r, v, nil
}
