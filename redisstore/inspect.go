package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/seed-0f2c7998/perdure/internal/fleet"
)

// Inspect returns the fleet's status of the named breakers, for a person to see. Inspect
// reads the server, joins no fleet and changes nothing. The map has no entry for a name
// that the server does not know, and none for a name whose data another release has
// written in another format; for the latter, Inspect returns an error together with the
// status of the other names. Any other error is about the Options, the server, or ctx.
func Inspect(ctx context.Context, o Options, names []string) (map[string]Status, error) {
	o, server, err := o.filled()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	type result struct {
		seen map[string]Status
		err  error
	}
	done := make(chan result, 1)
	go func() { // to connect may ignore ctx
		var r result
		r.seen, r.err = readAll(ctx, server, o.Prefix, names)
		done <- r
	}()
	select {
	case r := <-done:
		return r.seen, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func readAll(ctx context.Context, server rueidis.ClientOption, prefix string, names []string) (map[string]Status, error) {
	client, err := rueidis.NewClient(server)
	if err != nil {
		return nil, cleaned(err, passwords(server))
	}
	defer client.Close()
	now, err := clock(ctx, client)
	if err != nil {
		return nil, cleaned(err, passwords(server))
	}
	var other error
	seen := make(map[string]Status)
	for some := range slices.Chunk(names, 100) { // hashes of a large fleet are large
		var commands []rueidis.Completed
		for _, name := range some {
			commands = append(commands, client.B().Hgetall().Key(prefix+name).Build())
		}
		for i, response := range client.DoMulti(ctx, commands...) {
			hash, err := response.AsStrMap()
			if len(hash) == 0 && err == nil {
				continue
			}
			var st Status
			if err == nil {
				st, err = status(prefix+some[i], hash, now)
			}
			if e, ok := errors.AsType[*fleet.UnsharedError](err); ok {
				other = fmt.Errorf("redisstore: %w", e)
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", some[i], cleaned(err, passwords(server)))
			} else {
				seen[some[i]] = st
			}
		}
	}
	return seen, other
}

// clock returns the server's time, in Unix milliseconds.
func clock(ctx context.Context, client rueidis.Client) (int64, error) {
	now, err := client.Do(ctx, client.B().Time().Build()).AsIntSlice()
	if err != nil {
		return 0, err
	}
	if len(now) != 2 || now[0] < 0 || now[0] > 1<<40 || now[1] < 0 || now[1] >= 1e6 {
		return 0, bad("time", now, "seconds and microseconds")
	}
	return now[0]*1000 + now[1]/1000, nil
}

// status returns the status in a hash, at now in Unix milliseconds of the server's
// clock.
func status(key string, hash map[string]string, now int64) (Status, error) {
	left := func(field string) int64 {
		n, err := strconv.ParseInt(cmp.Or(hash[field], "0"), 10, 64)
		if err != nil || n < 0 {
			return -1 // which check refuses
		}
		return max(n-now, 0)
	}
	r := reply{
		Key: key, Format: hash["format"], Epoch: hash["epoch"], State: hash["state"],
		Open: left("until"), Lease: left("lease.till"), Process: hash["lease.process"], Node: hash["lease.node"],
	}
	if r.Lease == 0 {
		r.Process, r.Node = "", ""
	}
	v, err := r.view()
	if err != nil {
		return Status{}, err
	}
	return Status(fleet.StatusOf(v, time.Now())), nil
}
