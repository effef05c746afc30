// Package outcome finds what the errors of databases say about a transaction: their class, and whether the transaction
// can have been committed.
package outcome

import (
	"context"
	"errors"
	"reflect"

	"github.com/seed-0f2c7998/perdure/retry"
)

// Class returns the class of a MySQL error number, of a PostgreSQL server that became read-only, or of a statement that
// pgx has not sent because its connection was lost; otherwise unknown.
func Class(err error) retry.Class {
	if unsent(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return retry.ClassTransient
	}
	if state, _ := stateOf(err); state == readOnlyState {
		return retry.ClassTransient
	}
	number, state, ok := mysql(err)
	if !ok {
		return retry.ClassUnknown
	}
	if c := ofNumber(number); c != retry.ClassUnknown {
		return c
	}
	c, _ := new(retry.Policy).ClassOf(stateError(state))
	return c
}

// readOnlyState is the SQLSTATE of a write within a read-only transaction, or on a server that only reads.
const readOnlyState = "25006"

// ReadOnly reports whether err is the response of a server that accepts no writes, such as a primary that has been
// demoted.
func ReadOnly(err error) bool {
	if state, ok := stateOf(err); ok {
		return state == readOnlyState
	}
	number, _, _ := mysql(err)
	return number == 1290 || number == 1836
}

// ofNumber returns the class of an error number of MySQL or MariaDB.
func ofNumber(number uint64) retry.Class {
	switch number {
	case 1213, // deadlock
		1205, // lock wait timeout
		1020, // the record has changed since it was read
		3572, // NOWAIT, and the lock is held
		3101: // rolled back by group replication
		return retry.ClassConflict
	case 1040, // too many connections
		1203, // the user has too many connections
		1226: // the user has exceeded a resource's limit
		return retry.ClassThrottled
	case 1053, // the server shuts down
		1290, 1836, // the server is read-only
		1047,                         // a Galera node that has left its cluster
		1152, 1158, 1159, 1160, 1161, // the connection was aborted, or its packets lost
		1927, 3169, // the connection was killed
		4031,                   // the server has closed an idle connection
		2002, 2003, 2006, 2013: // numbers of MySQL's own client, which proxies pass on: no connection, or it was lost
		return retry.ClassTransient
	}
	return retry.ClassUnknown
}

type stateError string

func (e stateError) Error() string    { return "SQLSTATE " + string(e) }
func (e stateError) SQLState() string { return string(e) }

// stateOf returns the SQLSTATE of err, as pgx, lib/pq and others report it.
func stateOf(err error) (string, bool) {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState(), true
	}
	return "", false
}

// mysql returns the number and the SQLSTATE of a *mysql.MySQLError in err. That type has no method to know it by, and
// importing its package would link the driver into every program, so mysql knows the type by its name and fields.
func mysql(err error) (number uint64, state string, ok bool) {
	for err != nil {
		if number, state, ok := fields(err); ok {
			return number, state, true
		}
		if many, isMany := err.(interface{ Unwrap() []error }); isMany {
			for _, e := range many.Unwrap() {
				if number, state, ok := mysql(e); ok {
					return number, state, true
				}
			}
			return 0, "", false
		}
		err = errors.Unwrap(err)
	}
	return 0, "", false
}

func fields(err error) (number uint64, state string, ok bool) {
	v := reflect.ValueOf(err)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem().Name() != "MySQLError" || v.Elem().Kind() != reflect.Struct {
		return 0, "", false
	}
	n := v.Elem().FieldByName("Number")
	if !n.IsValid() || !n.CanUint() {
		return 0, "", false
	}
	if s := v.Elem().FieldByName("SQLState"); s.IsValid() && s.CanInterface() {
		if five, isState := reflect.TypeAssert[[5]byte](s); isState {
			state = string(five[:])
		}
	}
	return n.Uint(), state, true
}
