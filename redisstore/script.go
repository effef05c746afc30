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
	"github.com/seed-0f2c7998/perdure/internal/fleet"
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
var scripts = load("read", "trip", "lease", "settle", "release", "hand", "restore", "budget", "reserve")

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

// names are the scripts of the ops.
//
//nolint:gochecknoglobals // a constant table
var names = map[fleet.Op]string{
	fleet.Read: "read", fleet.Trip: "trip", fleet.Lease: "lease", fleet.Settle: "settle", fleet.Release: "release",
	fleet.Override: "hand", fleet.Restore: "restore", fleet.Visit: "budget", fleet.Reserve: "reserve",
}

// run is the call as the server gets it: by the script's name, or with its
// text if the server does not know it.
func (l *link) run(c fleet.Call, whole bool) rueidis.Completed {
	b, sc, name := l.client.B(), scripts[names[c.Op]], l.prefix+c.Key
	args := append([]string{l.member.Process, l.member.Node, ms(l.member.Alive), rand.Text(), l.channel()}, arguments(c)...)
	if whole {
		return b.Eval().Script(sc.body).Numkeys(1).Key(name).Arg(args...).Build()
	}
	return b.Evalsha().Sha1(sc.sha).Numkeys(1).Key(name).Arg(args...).Build()
}

// arguments are those of the call's own, from the sixth on.
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
	case fleet.Visit:
		d := c.Budget
		return []string{d.Cell, number(d.Holds), number(d.May), number(d.Given), number(d.Ceiling), number(d.Need), d.How}
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

	fleet.Loan

	From     int64 `json:"from"` // microseconds
	Granted  int64 `json:"granted"`
	Interval int64 `json:"interval"` // nanoseconds
	Burst    int64 `json:"burst"`
	Nodes    int64 `json:"nodes"`
}

// parse reads a response of the server: one that a script has returned, or one
// that was published.
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

// view returns what r says, or why it is not believed. Its Key is that of the hash.
func (r *reply) view() (fleet.View, error) {
	var state circuit.State
	err := r.check()
	if err == nil && state.UnmarshalText([]byte(r.State)) != nil || state == circuit.HalfOpen {
		err = bad("state", r.State, "closed, open or isolated")
	}
	if err != nil {
		return fleet.View{}, err
	}
	span := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return fleet.View{
		Key: r.Key, Epoch: r.Epoch, Gen: r.Gen, State: state, Manual: r.Hand, Open: span(r.Open), Reason: r.Reason,
		Process: r.Process, Node: r.Node, Lease: span(r.Lease), Set: r.Handed, Ago: span(r.Ago), Loan: r.Loan,
		Grant: fleet.Grant{
			From: time.Duration(r.From) * time.Microsecond, Count: int(r.Granted),
			Interval: time.Duration(r.Interval), Burst: int(r.Burst), Nodes: int(r.Nodes),
		},
	}, nil
}
