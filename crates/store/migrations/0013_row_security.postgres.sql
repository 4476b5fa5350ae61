-- Row-level security: what a statement may touch is decided by the database as well. Each transaction says through whose eyes it
-- reads (`caduceus.viewer`: a tenant, or `*` for the installation); without a word there are no rows at all.

CREATE FUNCTION caduceus_viewer() RETURNS TEXT LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT COALESCE(current_setting('caduceus.viewer', true), '') $$;

-- The installation sees everything, and some tables only the installation sees.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY installation ON %I USING ((SELECT caduceus_viewer()) = ''*'')', name);
    END LOOP;
END
$$;

-- What belongs to one tenant.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['account', 'session', 'api', 'api_version', 'specification', 'plan', 'application',
                                'credential', 'deployment', 'idempotency', 'api_review'] LOOP
        EXECUTE format('CREATE POLICY own ON %I USING (tenant_id = (SELECT caduceus_viewer()))', name);
    END LOOP;
END
$$;
CREATE POLICY own ON tenant USING (id = (SELECT caduceus_viewer()));

-- What hangs on something that belongs to one tenant.
CREATE POLICY own ON api_audience USING (
    EXISTS (SELECT 1 FROM api WHERE api.id = api_audience.api_id AND api.tenant_id = (SELECT caduceus_viewer())));
CREATE POLICY own ON api_label USING (
    EXISTS (SELECT 1 FROM api WHERE api.id = api_label.api_id AND api.tenant_id = (SELECT caduceus_viewer())));
CREATE POLICY own ON portal_session USING (EXISTS (SELECT 1 FROM session WHERE session.id = portal_session.session_id));
CREATE POLICY own ON notice USING (EXISTS (SELECT 1 FROM account WHERE account.id = notice.user_id));
CREATE POLICY own ON notice_settings USING (EXISTS (SELECT 1 FROM account WHERE account.id = notice_settings.user_id));
CREATE POLICY own ON recovery_code USING (EXISTS (SELECT 1 FROM account WHERE account.id = recovery_code.account_id));

-- An audit trail is read by its tenant; who acts in another tenant's matter adds a row to that one's trail.
CREATE POLICY own ON audit_event FOR SELECT USING (tenant_id = (SELECT caduceus_viewer()));
CREATE POLICY add ON audit_event FOR INSERT
    WITH CHECK (tenant_id = (SELECT caduceus_viewer()) OR actor_tenant = (SELECT caduceus_viewer()));

-- What belongs to two: the tenant that offers and the one that uses.
CREATE POLICY party ON subscription
    USING (owner_id = (SELECT caduceus_viewer()) OR consumer_id = (SELECT caduceus_viewer()));
CREATE POLICY party ON usage_rollup FOR SELECT
    USING (owner_id = (SELECT caduceus_viewer()) OR consumer_id = (SELECT caduceus_viewer()));
CREATE POLICY party ON failed_call FOR SELECT
    USING (owner_id = (SELECT caduceus_viewer()) OR consumer_id = (SELECT caduceus_viewer()));

-- What is shown to others: APIs by their visibility or an agreement, and what hangs on them.
CREATE INDEX subscription_by_api ON subscription (api_id);
CREATE INDEX subscription_by_application ON subscription (application_id);
CREATE POLICY shown ON api FOR SELECT USING (
    ((SELECT caduceus_viewer()) <> '' AND visibility = 'public')
    OR (visibility = 'restricted' AND strpos(visible_to, '"' || (SELECT caduceus_viewer()) || '"') > 0)
    OR EXISTS (SELECT 1 FROM subscription WHERE subscription.api_id = api.id));
CREATE POLICY shown ON api_audience FOR SELECT USING (tenant_id = (SELECT caduceus_viewer()));
CREATE POLICY shown ON api_label FOR SELECT USING (EXISTS (SELECT 1 FROM api WHERE api.id = api_label.api_id));
CREATE POLICY shown ON api_review FOR SELECT USING (EXISTS (SELECT 1 FROM api WHERE api.id = api_review.api_id));
CREATE POLICY shown ON api_version FOR SELECT USING (
    status IN ('active', 'deprecated', 'retired') AND EXISTS (SELECT 1 FROM api WHERE api.id = api_version.api_id));
CREATE POLICY shown ON specification FOR SELECT
    USING (EXISTS (SELECT 1 FROM api_version WHERE api_version.id = specification.version_id));
CREATE POLICY shown ON plan FOR SELECT USING (EXISTS (SELECT 1 FROM api WHERE api.id = plan.api_id));
CREATE POLICY shown ON application FOR SELECT
    USING (EXISTS (SELECT 1 FROM subscription WHERE subscription.application_id = application.id));
CREATE POLICY shown ON tenant FOR SELECT USING (
    EXISTS (SELECT 1 FROM api WHERE api.tenant_id = tenant.id)
    OR EXISTS (SELECT 1 FROM subscription WHERE tenant.id IN (subscription.owner_id, subscription.consumer_id)));
CREATE POLICY shown ON category FOR SELECT USING ((SELECT caduceus_viewer()) <> '');
