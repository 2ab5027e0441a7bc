package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
)

// A burst of events within this time leads to one rule set.
const settle = 20 * time.Millisecond

// After a failure the rule set is tried again without waiting for an event.
const retry = time.Second

// Enforcer keeps the kernel's rules equal to what the cluster's objects say.
type Enforcer struct {
	node       string
	apply      func(context.Context, string) error
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
	changed    chan struct{}

	mutex     sync.Mutex
	done      *sync.Cond
	wanted    uint64 // changes seen
	applied   uint64 // changes that the kernel's rules include
	announced map[string]netip.Addr
}

// startEnforcer begins to watch, waits for the first complete view, and enforces until ctx ends.
func startEnforcer(ctx context.Context, client kubernetes.Interface, node string) (*Enforcer, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	enforcer := &Enforcer{
		node:       node,
		apply:      applyRules,
		pods:       factory.Core().V1().Pods().Lister(),
		namespaces: factory.Core().V1().Namespaces().Lister(),
		policies:   factory.Networking().V1().NetworkPolicies().Lister(),
		changed:    make(chan struct{}, 1),
		announced:  map[string]netip.Addr{},
	}
	enforcer.done = sync.NewCond(&enforcer.mutex)
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { enforcer.touch() },
		UpdateFunc: func(any, any) { enforcer.touch() },
		DeleteFunc: func(any) { enforcer.touch() },
	}
	watched := []cache.SharedIndexInformer{
		factory.Core().V1().Pods().Informer(),
		factory.Core().V1().Namespaces().Informer(),
		factory.Networking().V1().NetworkPolicies().Informer(),
	}
	for _, informer := range watched {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return nil, fmt.Errorf("watching: %w", err)
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("no complete list of %v before the end", kind)
		}
	}
	enforcer.touch()
	go enforcer.loop(ctx)
	return enforcer, nil
}

// touch notes that something changed and returns the number of the change.
func (e *Enforcer) touch() uint64 {
	e.mutex.Lock()
	e.wanted++
	number := e.wanted
	e.mutex.Unlock()
	select {
	case e.changed <- struct{}{}:
	default: // a wake-up is already waiting
	}
	return number
}

func (e *Enforcer) loop(ctx context.Context) {
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.changed:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settle):
		}
		e.mutex.Lock()
		number := e.wanted
		e.mutex.Unlock()
		rules, err := e.rules()
		if err == nil && rules != last {
			err = e.apply(ctx, rules)
		}
		if err != nil {
			slog.Error("rules not applied; trying again", "cause", err)
			time.AfterFunc(retry, func() { e.touch() })
			continue
		}
		if rules != last {
			slog.Info("rules applied", "change", number, "bytes", len(rules))
			last = rules
		}
		e.mutex.Lock()
		e.applied = number
		e.mutex.Unlock()
		e.done.Broadcast()
	}
}

func (e *Enforcer) rules() (string, error) {
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return "", fmt.Errorf("pods: %w", err)
	}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return "", fmt.Errorf("namespaces: %w", err)
	}
	policies, err := e.policies.List(labels.Everything())
	if err != nil {
		return "", fmt.Errorf("policies: %w", err)
	}
	return render(&State{
		Node:       e.node,
		Namespaces: byName(namespaces),
		Pods:       pods,
		Policies:   policies,
		Addresses:  e.addresses(pods),
	})
}

// addresses copies the announced addresses and forgets those of pods that are gone.
func (e *Enforcer) addresses(pods []*corev1.Pod) map[string]netip.Addr {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	current := make(map[string]netip.Addr, len(e.announced))
	for _, pod := range pods {
		if address, found := e.announced[string(pod.UID)]; found {
			current[string(pod.UID)] = address
		}
	}
	e.announced = current
	copied := make(map[string]netip.Addr, len(current))
	for uid, address := range current {
		copied[uid] = address
	}
	return copied
}

// Announce records the address of a new pod and returns once the kernel's rules include it,
// so that no container of the pod runs before its policies hold.
func (e *Enforcer) Announce(ctx context.Context, namespace, name, uid string, address netip.Addr) error {
	if err := e.waitForPod(ctx, namespace, name, uid); err != nil {
		return err
	}
	e.mutex.Lock()
	e.announced[uid] = address
	e.mutex.Unlock()
	return e.waitApplied(ctx, e.touch())
}

// waitForPod waits until the watch has delivered the pod; the kubelet may have seen it first.
func (e *Enforcer) waitForPod(ctx context.Context, namespace, name, uid string) error {
	for {
		pod, err := e.pods.Pods(namespace).Get(name)
		if err == nil && string(pod.UID) == uid {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s/%s (%s) is not known yet", namespace, name, uid)
		case <-time.After(settle):
		}
	}
}

// waitApplied waits until the kernel's rules include the given change.
func (e *Enforcer) waitApplied(ctx context.Context, number uint64) error {
	stop := context.AfterFunc(ctx, e.done.Broadcast)
	defer stop()
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for e.applied < number {
		if ctx.Err() != nil {
			return fmt.Errorf("rules were not applied in time: %w", ctx.Err())
		}
		e.done.Wait()
	}
	return nil
}

// Current tells whether the kernel's rules include every change seen so far.
func (e *Enforcer) Current() bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	return e.applied > 0 && e.applied == e.wanted
}

func byName(namespaces []*corev1.Namespace) map[string]*corev1.Namespace {
	named := make(map[string]*corev1.Namespace, len(namespaces))
	for _, namespace := range namespaces {
		named[namespace.Name] = namespace
	}
	return named
}
