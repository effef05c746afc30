package redisstore

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the server names scripts by it
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

//go:embed lua/*.lua
var lua embed.FS

// format is the version of the fields of the hashes, their values, and the published
// messages. A process does not touch a hash of another format. Raise format with any
// change of these; TestFormat fails if it is forgotten.
const format = "1"

// A script is one of the scripts in lua.
type script struct{ body, sha string }

// scripts returns all scripts, by the name of the file.
//
//nolint:gochecknoglobals // a constant table, which is made when it is needed
var scripts = sync.OnceValue(func() map[string]script {
	return load("read", "trip", "lease", "settle", "release", "override", "restore", "budget", "reserve")
})

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

// names holds the name of the script for each op.
//
//nolint:gochecknoglobals // a constant table
var names = map[fleet.Op]string{
	fleet.Read: "read", fleet.Trip: "trip", fleet.Lease: "lease", fleet.Settle: "settle", fleet.Release: "release",
	fleet.Override: "override", fleet.Restore: "restore", fleet.ShareBudget: "budget", fleet.Reserve: "reserve",
}

// command returns the command that executes c: EVAL with the text of the script if
// withText, otherwise EVALSHA.
func (l *link) command(c fleet.Call, withText bool) rueidis.Completed {
	b, sc, name := l.client.B(), scripts()[names[c.Op]], l.prefix+c.Key
	args := append([]string{l.member.Process, l.member.Node, ms(l.member.Alive), rand.Text(), l.channel()}, arguments(c)...)
	if withText {
		return b.Eval().Script(sc.body).Numkeys(1).Key(name).Arg(args...).Build()
	}
	return b.Evalsha().Sha1(sc.sha).Numkeys(1).Key(name).Arg(args...).Build()
}

// arguments returns the arguments of the script for c from the sixth on.
func arguments(c fleet.Call) []string {
	state, open := c.State.String(), ms(c.Open)
	switch c.Op {
	case fleet.Trip:
		return []string{open, strconv.Itoa(c.Quorum), c.Reason, flag(c.Gate)}
	case fleet.Lease:
		return []string{ms(c.Lease.Length), flag(c.Lease.Used), ms(c.Lease.Idle), ms(c.Lease.Yield)}
	case fleet.Settle:
		return []string{number(c.Token), state, open, c.Reason, flag(c.Gate)}
	case fleet.Release:
		return []string{number(c.Token)}
	case fleet.Override:
		return []string{state, open, c.Reason, ms(c.Ago)}
	case fleet.Restore:
		ago := ""
		if c.Manual {
			ago = ms(c.Ago)
		}
		return []string{c.Epoch, number(c.Gen), state, open, c.Reason, ago}
	case fleet.ShareBudget:
		d := c.Budget
		return []string{d.Cell, number(d.Balance), number(d.Limit), number(d.Returned), number(d.Ceiling), number(d.Need), d.Phase}
	case fleet.Reserve:
		r := c.Rate
		return []string{number(int64(r.Interval)), strconv.Itoa(r.Burst), strconv.Itoa(r.Count), number(max(r.Until.Microseconds(), 0))}
	case fleet.Read:
	}
	return nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// ms returns d in milliseconds, rounded up, and 0 if d is negative.
func ms(d time.Duration) string {
	return strconv.FormatInt(max(int64((d+time.Millisecond-1)/time.Millisecond), 0), 10)
}

// A reply is what the scripts return and publish. The names in JSON of what is
// published are part of the format, old words included.
type reply struct {
	Key      string `json:"key"`
	Format   string `json:"format"`
	Epoch    string `json:"epoch"`
	Gen      int64  `json:"gen"`
	State    string `json:"state"`
	Manual   bool   `json:"hand"` // the state is a manual override
	Open     int64  `json:"open"` // milliseconds
	Reason   string `json:"reason"`
	Process  string `json:"process"`
	Node     string `json:"node"`
	Lease    int64  `json:"lease"`  // milliseconds
	Override string `json:"handed"` // when the latest override was set; "" if there was none
	Ago      int64  `json:"ago"`    // milliseconds since Override

	fleet.BudgetGrant

	From     int64 `json:"from"` // microseconds
	Count    int64 `json:"count"`
	Interval int64 `json:"interval"` // nanoseconds
	Burst    int64 `json:"burst"`
	Nodes    int64 `json:"nodes"`
}

// parse decodes what a script has returned or published.
func parse(text string) (reply, fleet.View, error) {
	var r reply
	if len(text) > maxReply {
		return r, fleet.View{}, fmt.Errorf("invalid response: %d bytes, at most %d are allowed", len(text), maxReply)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, fleet.View{}, fmt.Errorf("invalid response: %w", err)
	}
	v, err := r.view()
	return r, v, err
}

// view returns r as a View, whose Key is that of the hash, or an error if r is invalid.
func (r *reply) view() (fleet.View, error) {
	var state circuit.State
	err := r.check()
	if err == nil && state.UnmarshalText([]byte(r.State)) != nil || state == circuit.HalfOpen {
		err = bad("state", r.State, "closed, open or isolated")
	}
	if err != nil {
		return fleet.View{}, err
	}
	millis := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return fleet.View{
		Key: r.Key, Epoch: r.Epoch, Gen: r.Gen, State: state, Manual: r.Manual, Open: millis(r.Open), Reason: r.Reason,
		Process: r.Process, Node: r.Node, Lease: millis(r.Lease), Override: r.Override, Ago: millis(r.Ago), Budget: r.BudgetGrant,
		Rate: fleet.RateGrant{
			From: time.Duration(r.From) * time.Microsecond, Count: int(r.Count),
			Interval: time.Duration(r.Interval), Burst: int(r.Burst), Nodes: int(r.Nodes),
		},
	}, nil
}
