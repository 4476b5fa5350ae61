-- Row-level security: what a statement may touch is decided by the database as well. Connections work as one of two roles.
-- caduceus_installation, for background work and administration, sees everything. caduceus_app sees what the tenant may see that
-- each of its transactions names in caduceus.viewer, and without a word nothing.

DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY everything ON %I TO caduceus_installation USING (true)', name);
    END LOOP;
    -- What belongs to one tenant.
    FOREACH name IN ARRAY ARRAY['account', 'session', 'api', 'api_version', 'specification', 'plan', 'application',
                                'credential', 'deployment', 'idempotency', 'api_review'] LOOP
        EXECUTE format(
            'CREATE POLICY own ON %I TO caduceus_app USING (tenant_id = current_setting(''caduceus.viewer'', true))', name);
    END LOOP;
END
$$;
CREATE POLICY own ON tenant TO caduceus_app USING (id = current_setting('caduceus.viewer', true));

-- What hangs on something that belongs to one tenant.
CREATE POLICY own ON api_audience TO caduceus_app USING (
    EXISTS (SELECT 1 FROM api
            WHERE api.id = api_audience.api_id AND api.tenant_id = current_setting('caduceus.viewer', true)));
CREATE POLICY own ON api_label TO caduceus_app USING (
    EXISTS (SELECT 1 FROM api
            WHERE api.id = api_label.api_id AND api.tenant_id = current_setting('caduceus.viewer', true)));
CREATE POLICY own ON portal_session TO caduceus_app USING (
    EXISTS (SELECT 1 FROM session WHERE session.id = portal_session.session_id));
CREATE POLICY own ON notice TO caduceus_app USING (EXISTS (SELECT 1 FROM account WHERE account.id = notice.user_id));
CREATE POLICY own ON notice_settings TO caduceus_app USING (
    EXISTS (SELECT 1 FROM account WHERE account.id = notice_settings.user_id));
CREATE POLICY own ON recovery_code TO caduceus_app USING (
    EXISTS (SELECT 1 FROM account WHERE account.id = recovery_code.account_id));

-- An audit trail is read by its tenant; who acts in another tenant's matter adds a row to that one's trail.
CREATE POLICY own ON audit_event FOR SELECT TO caduceus_app USING (tenant_id = current_setting('caduceus.viewer', true));
CREATE POLICY add ON audit_event FOR INSERT TO caduceus_app
    WITH CHECK (current_setting('caduceus.viewer', true) IN (tenant_id, actor_tenant));

-- What belongs to two: the tenant that offers and the one that uses.
CREATE POLICY party ON subscription TO caduceus_app
    USING (current_setting('caduceus.viewer', true) IN (owner_id, consumer_id));
CREATE POLICY party ON usage_rollup FOR SELECT TO caduceus_app
    USING (current_setting('caduceus.viewer', true) IN (owner_id, consumer_id));
CREATE POLICY party ON failed_call FOR SELECT TO caduceus_app
    USING (current_setting('caduceus.viewer', true) IN (owner_id, consumer_id));

-- What is shown to others: APIs by their visibility or an agreement, and what hangs on them. What is one's own is looked at first.
CREATE INDEX subscription_by_api ON subscription (api_id);
CREATE INDEX subscription_by_application ON subscription (application_id);
CREATE POLICY shown ON api FOR SELECT TO caduceus_app USING (
    (visibility = 'public' AND current_setting('caduceus.viewer', true) <> '')
    OR tenant_id = current_setting('caduceus.viewer', true)
    OR (visibility = 'restricted' AND strpos(visible_to, '"' || current_setting('caduceus.viewer', true) || '"') > 0)
    OR EXISTS (SELECT 1 FROM subscription WHERE subscription.api_id = api.id));
CREATE POLICY shown ON api_audience FOR SELECT TO caduceus_app USING (tenant_id = current_setting('caduceus.viewer', true));
CREATE POLICY shown ON api_label FOR SELECT TO caduceus_app USING (
    EXISTS (SELECT 1 FROM api WHERE api.id = api_label.api_id));
CREATE POLICY shown ON api_review FOR SELECT TO caduceus_app USING (
    EXISTS (SELECT 1 FROM api WHERE api.id = api_review.api_id));
CREATE POLICY shown ON api_version FOR SELECT TO caduceus_app USING (
    tenant_id = current_setting('caduceus.viewer', true)
    OR (status IN ('active', 'deprecated', 'retired') AND EXISTS (SELECT 1 FROM api WHERE api.id = api_version.api_id)));
CREATE POLICY shown ON specification FOR SELECT TO caduceus_app USING (
    tenant_id = current_setting('caduceus.viewer', true)
    OR EXISTS (SELECT 1 FROM api_version WHERE api_version.id = specification.version_id));
CREATE POLICY shown ON plan FOR SELECT TO caduceus_app USING (
    tenant_id = current_setting('caduceus.viewer', true) OR EXISTS (SELECT 1 FROM api WHERE api.id = plan.api_id));
CREATE POLICY shown ON application FOR SELECT TO caduceus_app USING (
    tenant_id = current_setting('caduceus.viewer', true)
    OR EXISTS (SELECT 1 FROM subscription WHERE subscription.application_id = application.id));
CREATE POLICY shown ON tenant FOR SELECT TO caduceus_app USING (
    id = current_setting('caduceus.viewer', true)
    OR EXISTS (SELECT 1 FROM api WHERE api.tenant_id = tenant.id)
    OR EXISTS (SELECT 1 FROM subscription WHERE tenant.id IN (subscription.owner_id, subscription.consumer_id)));
CREATE POLICY shown ON category FOR SELECT TO caduceus_app USING (current_setting('caduceus.viewer', true) <> '');
