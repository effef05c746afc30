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

// format names the fields of the hashes, what is in them, and what is published.
// A process leaves a hash of another format alone. Raise it with any change of
// these; TestFormat tells.
const format = "1"

// A script is one of the scripts in lua, named as its file.
type script struct{ body, sha string }

// scripts are all of them.
//
//nolint:gochecknoglobals // a constant table
var scripts = load("read", "trip", "lease", "settle", "release", "hand", "restore", "budget")

func load(names ...string) map[string]script {
	all := make(map[string]script)
	prelude := "local format = '" + format + "'\n" + text("prelude")
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
	Key     string `json:"key"`
	Format  string `json:"format"`
	Epoch   string `json:"epoch"`
	Gen     int64  `json:"gen"`
	State   string `json:"state"`
	Hand    bool   `json:"hand"`
	Open    int64  `json:"open"`   // milliseconds
	Reason  string `json:"reason"` //
	Process string `json:"process"`
	Node    string `json:"node"`
	Lease   int64  `json:"lease"` // milliseconds
	Handed  string `json:"handed"`
	Ago     int64  `json:"ago"` // milliseconds since that

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

// parse reads a response of the server: one that a script has returned, or one
// that was published, which has no instant at which it was sent for.
func (s *Store) parse(text string, sent, now time.Time) (reply, view, error) {
	var r reply
	if len(text) > maxReply {
		return r, view{}, fmt.Errorf("invalid response: %d bytes, at most %d are allowed", len(text), maxReply)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, view{}, fmt.Errorf("invalid response: %w", err)
	}
	v, err := r.view(now)
	if r.Process == s.process && !sent.IsZero() {
		v.lease = sent.Add(time.Duration(r.Lease) * time.Millisecond) // it ends here no later than at the server
	}
	return r, v, err
}

// view returns what r says, or why it is not believed. Remaining times are counted
// from now, so nothing ends early.
func (r *reply) view(now time.Time) (view, error) {
	var state circuit.State
	err := r.check()
	if err == nil && state.UnmarshalText([]byte(r.State)) != nil || state == circuit.HalfOpen {
		err = bad("state", r.State, "closed, open or isolated")
	}
	if err != nil {
		return view{}, err
	}
	after := func(n int64) time.Time { return now.Add(time.Duration(n) * time.Millisecond) }
	v := view{
		epoch: r.Epoch, gen: r.Gen, state: state, byHand: r.Hand, reason: r.Reason,
		until: after(r.Open), process: r.Process, node: r.Node,
		lease: after(r.Lease), handed: r.Handed,
	}
	if r.Handed != "" {
		v.hand = after(-r.Ago)
	}
	return v, nil
}
