package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type object = map[string]string

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: object{"ns": name}}}
}

func pod(namespace, name, address string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name), Labels: object{"pod": name}},
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "web", ContainerPort: 80, Protocol: corev1.ProtocolTCP},
			{Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address},
	}
}

func world(policies ...*networkingv1.NetworkPolicy) *State {
	return &State{
		Node:       "node-1",
		Namespaces: map[string]*corev1.Namespace{"x": namespace("x"), "y": namespace("y")},
		Pods:       []*corev1.Pod{pod("x", "a", "10.0.0.1"), pod("x", "b", "10.0.0.2"), pod("y", "a", "10.0.1.1")},
		Policies:   policies,
	}
}

// policy selects pod `a` of namespace `x`.
func policy(spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	spec.PodSelector = metav1.LabelSelector{MatchLabels: object{"pod": "a"}}
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: "p"}, Spec: spec}
}

func labelled(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: object{key: value}}
}

func tcp(port intstr.IntOrString) networkingv1.NetworkPolicyPort {
	protocol := corev1.ProtocolTCP
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: &port}
}

// chain returns the rules of a chain, without the final drop; found is false if it isn't there.
func chain(t *testing.T, state *State, name string) (rules []string, found bool) {
	t.Helper()
	text, err := render(state)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(text, "\tchain "+name+" {\n")
	if !found {
		return nil, false
	}
	body, _, _ := strings.Cut(rest, "\t}\n")
	for line := range strings.Lines(body) {
		rules = append(rules, strings.TrimSpace(line))
	}
	if len(rules) == 0 || rules[len(rules)-1] != "drop" {
		t.Fatalf("chain %s doesn't end with drop: %q", name, rules)
	}
	return rules[:len(rules)-1], true
}

func expect(t *testing.T, state *State, name string, wanted ...string) {
	t.Helper()
	rules, found := chain(t, state, name)
	if !found {
		t.Fatalf("there is no chain %s", name)
	}
	slices.Sort(wanted)
	if !slices.Equal(rules, wanted) {
		t.Errorf("chain %s:\n got %q\nwant %q", name, rules, wanted)
	}
}

func TestPodsThatNoPolicySelectsAreNotGuarded(t *testing.T) {
	state := world(policy(networkingv1.NetworkPolicySpec{}))
	for _, name := range []string{"ingress_10_0_0_2", "ingress_10_0_1_1", "egress_10_0_0_1"} {
		if _, found := chain(t, state, name); found {
			t.Errorf("chain %s exists", name)
		}
	}
}

func TestPolicyWithoutRulesDeniesAllIngress(t *testing.T) {
	expect(t, world(policy(networkingv1.NetworkPolicySpec{})), "ingress_10_0_0_1")
}

func TestEgressIsIsolatedOnlyWhereThePolicySaysSo(t *testing.T) {
	spec := networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}}
	state := world(policy(spec))
	expect(t, state, "egress_10_0_0_1")
	if _, found := chain(t, state, "ingress_10_0_0_1"); found {
		t.Error("ingress is isolated too")
	}
}

func TestEmptyRuleAllowsEverything(t *testing.T) {
	expect(t, world(policy(networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}})),
		"ingress_10_0_0_1", "return")
}

func ingressFrom(peers ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
	return policy(networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers}}})
}

func TestPodSelectorAloneMeansTheSameNamespace(t *testing.T) {
	expect(t, world(ingressFrom(networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}})),
		"ingress_10_0_0_1", "ip saddr { 10.0.0.1, 10.0.0.2 } return")
}

func TestNamespaceSelectorAloneMeansAllItsPods(t *testing.T) {
	expect(t, world(ingressFrom(networkingv1.NetworkPolicyPeer{NamespaceSelector: labelled("ns", "y")})),
		"ingress_10_0_0_1", "ip saddr { 10.0.1.1 } return")
}

func TestBothSelectorsOfOnePeerMustMatch(t *testing.T) {
	peer := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}, PodSelector: labelled("pod", "b")}
	expect(t, world(ingressFrom(peer)), "ingress_10_0_0_1", "ip saddr { 10.0.0.2 } return")
}

func TestPeersThatMatchNobodyAllowNobody(t *testing.T) {
	expect(t, world(ingressFrom(networkingv1.NetworkPolicyPeer{PodSelector: labelled("pod", "z")})), "ingress_10_0_0_1")
}

func TestExceptionsNarrowTheirOwnBlockOnly(t *testing.T) {
	expect(t, world(ingressFrom(
		networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/16", Except: []string{"10.0.1.0/24"}}},
		networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.1.1/32"}},
		networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "fd00::/8"}},
	)), "ingress_10_0_0_1", "ip saddr 10.0.0.0/16 ip saddr != 10.0.1.0/24 return", "ip saddr 10.0.1.1/32 return")
}

func TestPortsByNumberRangeNameAndProtocol(t *testing.T) {
	udp, sctp, end := corev1.ProtocolUDP, corev1.ProtocolSCTP, int32(90)
	ranged := tcp(intstr.FromInt32(80))
	ranged.EndPort = &end
	spec := networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{
		tcp(intstr.FromInt32(443)), ranged, tcp(intstr.FromString("web")), {Protocol: &udp}, {Protocol: &sctp},
		tcp(intstr.FromString("dns")), tcp(intstr.FromString("absent")),
	}}}}
	expect(t, world(policy(spec)), "ingress_10_0_0_1", "tcp dport 443 return", "tcp dport 80-90 return",
		"tcp dport 80 return", "meta l4proto udp return", "meta l4proto sctp return")
}

func TestPortsThatResolveToNothingAllowNothing(t *testing.T) {
	spec := networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{
		{Ports: []networkingv1.NetworkPolicyPort{tcp(intstr.FromString("absent"))}}}}
	expect(t, world(policy(spec)), "ingress_10_0_0_1")
}

func TestNamedEgressPortIsResolvedOnEachDestination(t *testing.T) {
	state := world(policy(networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{
		{Ports: []networkingv1.NetworkPolicyPort{tcp(intstr.FromString("web"))}}}}))
	state.Pods[2].Spec.Containers[0].Ports[0].ContainerPort = 8080
	expect(t, state, "egress_10_0_0_1", "ip daddr { 10.0.0.1, 10.0.0.2 } tcp dport 80 return",
		"ip daddr { 10.0.1.1 } tcp dport 8080 return")
}

func TestEgressPeersAndPortsCombine(t *testing.T) {
	state := world(policy(networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{
		To:    []networkingv1.NetworkPolicyPeer{{NamespaceSelector: labelled("ns", "y")}, {IPBlock: &networkingv1.IPBlock{CIDR: "198.18.0.1/32"}}},
		Ports: []networkingv1.NetworkPolicyPort{tcp(intstr.FromInt32(443))},
	}}}))
	expect(t, state, "egress_10_0_0_1", "ip daddr { 10.0.1.1 } tcp dport 443 return", "ip daddr 198.18.0.1/32 tcp dport 443 return")
}

func TestSeveralPoliciesAddUp(t *testing.T) {
	state := world(ingressFrom(networkingv1.NetworkPolicyPeer{PodSelector: labelled("pod", "b")}),
		ingressFrom(networkingv1.NetworkPolicyPeer{NamespaceSelector: labelled("ns", "y")}),
		policy(networkingv1.NetworkPolicySpec{}))
	expect(t, state, "ingress_10_0_0_1", "ip saddr { 10.0.0.2 } return", "ip saddr { 10.0.1.1 } return")
}

func TestFinishedPodsAndPodsOnTheHostNetworkAreNobody(t *testing.T) {
	state := world(ingressFrom(networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}))
	state.Pods[1].Status.Phase = corev1.PodSucceeded
	host := pod("x", "host", "198.18.0.1")
	host.Spec.HostNetwork = true
	state.Pods = append(state.Pods, host)
	expect(t, state, "ingress_10_0_0_1", "ip saddr { 10.0.0.1 } return")
}

func TestPodsOfOtherNodesArePeersButNotGuarded(t *testing.T) {
	state := world(ingressFrom(networkingv1.NetworkPolicyPeer{PodSelector: labelled("pod", "b")}))
	state.Pods[1].Spec.NodeName = "node-2"
	expect(t, state, "ingress_10_0_0_1", "ip saddr { 10.0.0.2 } return")
	state.Node = "node-2"
	if _, found := chain(t, state, "ingress_10_0_0_1"); found {
		t.Error("a pod of another node is guarded")
	}
}

func TestAnnouncedAddressCountsBeforeTheStatusHasOne(t *testing.T) {
	state := world(policy(networkingv1.NetworkPolicySpec{}))
	state.Pods[0].Status.PodIP = ""
	state.Addresses = map[string]netip.Addr{"xa": netip.MustParseAddr("10.0.0.9")}
	expect(t, state, "ingress_10_0_0_9")
}

func TestDefaultDenyOfBothDirectionsGuardsTheWayToTheHostToo(t *testing.T) {
	spec := networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}}
	text, err := render(world(policy(spec)))
	if err != nil {
		t.Fatal(err)
	}
	_, input, _ := strings.Cut(text, "chain input {")
	if !strings.Contains(input, "ip saddr vmap @egress_pods") {
		t.Errorf("what a pod sends to its host is not judged:\n%s", input)
	}
}

func TestSameStateInAnotherOrderRendersTheSame(t *testing.T) {
	one, two := policy(networkingv1.NetworkPolicySpec{}), ingressFrom(networkingv1.NetworkPolicyPeer{PodSelector: labelled("pod", "b")})
	first, err := render(world(one, two))
	if err != nil {
		t.Fatal(err)
	}
	state := world(two, one)
	slices.Reverse(state.Pods)
	second, err := render(state)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("two texts for one state:\n%s\n%s", first, second)
	}
}
