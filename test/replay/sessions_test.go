package replay_test

import (
	"context"
	"fmt"
	"maps"
)

// sessions returns all of them by name.
func sessions() map[string]session {
	return map[string]session{
		"host": hostSession(), "changes": changesSession(), "life": lifeSession(), "pipes": pipesSession(), "pair": pairSession(), "source": sourceSession(), "json": jsonSession(), "more": moreSession(), "provider": providerSession(), "open": openSession(), "updates": updatesSession(), "fleet": fleetSession(),
		"local": localSession(), "power": powerSession(), "slow": slowSession(), "ports": portsSession(),
	}
}

// surroundings are the subnets and addresses that most recordings presume.
func surroundings(ctx context.Context, w *world) {
	w.subnets(ctx)
	for i := 1; i <= 12; i++ {
		w.pool(fmt.Sprintf("10.99.1.%d", i))
	}
	w.pool("10.99.1.20", "10.99.1.21", "10.99.1.22", "10.98.1.1", "10.98.1.2")
}

// extrasOf returns what a recording needs beside its bytes.
func extrasOf(name string) extras {
	for _, theme := range []map[string]extras{hostExtras(), pipesExtras(), pairExtras(), jsonExtras(), updatesExtras(), restExtras()} {
		if e, ok := theme[name]; ok {
			return e
		}
	}
	return extras{}
}

// differences are all that are stated, by theme.
func differences() map[string]difference {
	all := make(map[string]difference)
	for _, theme := range []map[string]difference{
		hostDifferences(), changesDifferences(), lifeDifferences(), moreDifferences(), jsonDifferences(), pairDifferences(), updatesDifferences(),
	} {
		maps.Copy(all, theme)
	}
	return all
}
